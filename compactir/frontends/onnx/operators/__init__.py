"""ONNX's operators: one function per operator, which folds or appends. Defining one here is registering it.

To add one: a function under `@operator("Name")` in the file of its family and a case in
`tests/test_onnx_read.py`; ONNX's own cases run by themselves. Meanings are those of Operators.md of the onnx
package, for every version that `reader.OPSETS` lists.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
