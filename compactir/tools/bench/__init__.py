"""`compactc bench`: our library and other engines on one network, in turns on one core.

case.py     what is compared: the network in every form that engines read, inputs, what has to come out
forms.py    graphs that compute the same in other words, where engines differ in which they run fastest
engines/    one file per engine: how it is driven at its best
worker.py   the process of one engine: imports, loads, checks, runs when it is told to
race.py     starts the workers, refuses who is wrong, lets the others run in turns; the loop of multiply-adds,
            `compactir.runtime.peak`, is one more of them
figures.py  what came out: times, ratios, share of the peak, start-up, memory, sizes
known.py    the shares that engines reached before: whoever is far from them was not driven well
"""
