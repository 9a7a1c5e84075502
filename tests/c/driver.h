/* What the driver knows of a generated network. */
#include <stddef.h>

typedef struct {
  const char *name;
  int inputs, outputs;
  const size_t *bytes; /* of the inputs, then of the outputs */
  const char *const *names;
  size_t weights, workspace;
  int (*bind)(const float **weights, const void *data, size_t size);
  int (*run)(const float *weights, float *const *tensors, void *workspace);
} network;

extern const network networks[];
