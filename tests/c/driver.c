/* Runs generated networks on requests from stdin; every tensor, the weights and the workspace lie in memory of their own.
 *
 * Request: which network, where its memory lies (0: it ends at a page that must not be touched, 1: it begins at one,
 * 2: malloc, for the address sanitizer), how many times to run; then the packed weights and the inputs.
 * Answer: the code of bind or run, then the outputs. Inputs and weights are read-only while the network runs; bytes
 * around everything else are compared afterwards. A wild access ends the program with a line that says where. */
#define _GNU_SOURCE
#include "driver.h"

#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { AT_END, AT_START, ON_HEAP };
enum { MOST = 64 };

typedef struct {
  const char *what;
  unsigned char *pages, *data;
  size_t inner, bytes;
} area;

static area areas[MOST];
static int used;
static const network *running;
static size_t page;

static void report(int number, siginfo_t *info, void *context) {
  const unsigned char *at = info->si_addr;
  (void)context;
  for (int i = 0; i < used; ++i)
    if (areas[i].pages && at >= areas[i].pages && at < areas[i].pages + areas[i].inner + 2 * page)
      fprintf(stderr, "%s: signal %d at byte %ld of the %zu of `%s`\n", running->name, number,
              (long)(at - areas[i].data), areas[i].bytes, areas[i].what);
  fprintf(stderr, "%s: signal %d at %p\n", running ? running->name : "no network", number, (const void *)at);
  _exit(99);
}

static void fail(const char *why) {
  fprintf(stderr, "%s: %s\n", running ? running->name : "no network", why);
  exit(3);
}

static void fill(area *a, size_t from, size_t to) {
  for (size_t i = from; i < to; ++i) a->pages[page + i] = 0xa5;
}

/* `bytes` bytes between two pages that nothing may touch. */
static unsigned char *take(const char *what, size_t bytes, size_t align, int placement) {
  area *a = &areas[used++];
  if (used > MOST) fail("too many tensors");
  *a = (area){ what, NULL, NULL, (bytes + page - 1) / page * page, bytes };
  if (placement == ON_HEAP) {
    void *p = NULL;
    if (posix_memalign(&p, align < sizeof(void *) ? sizeof(void *) : align, bytes ? bytes : 1)) fail("no memory");
    return a->data = p;
  }
  a->pages = mmap(NULL, a->inner + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (a->pages == MAP_FAILED) fail("no memory");
  fill(a, 0, a->inner);
  if (mprotect(a->pages, page, PROT_NONE) || mprotect(a->pages + page + a->inner, page, PROT_NONE)) fail("mprotect");
  a->data = a->pages + page + (placement == AT_END ? a->inner - bytes : 0);
  if ((size_t)a->data % align) fail("the memory at the end of a page would not be aligned");
  return a->data;
}

static void only_read(const area *a) {
  if (a->pages && mprotect(a->pages + page, a->inner, PROT_READ)) fail("mprotect");
}

static void give_back(void) {
  for (int i = 0; i < used; ++i) {
    const area *a = &areas[i];
    if (!a->pages) {
      free(a->data);
      continue;
    }
    const unsigned char *inner = a->pages + page;
    for (size_t k = 0; k < a->inner; ++k)
      if ((inner + k < a->data || inner + k >= a->data + a->bytes) && inner[k] != 0xa5) {
        fprintf(stderr, "%s: byte %ld of the %zu of `%s` was written\n", running->name,
                (long)(inner + k - a->data), a->bytes, a->what);
        exit(4);
      }
    munmap(a->pages, a->inner + 2 * page);
  }
  used = 0;
}

static void get(void *p, size_t bytes) {
  if (bytes && fread(p, bytes, 1, stdin) != 1) fail("the request ends early");
}

typedef struct {
  const network *n;
  const float *weights;
  float *tensors[MOST];
  void *workspace;
  int times, code;
} job;

static void *work(void *argument) {
  job *j = argument;
  j->code = 0;
  for (int i = 0; i < j->times && !j->code; ++i) {
    memset(j->workspace, 0xff, j->n->workspace); /* whatever lies there: NaN */
    j->code = j->n->run(j->weights, j->tensors, j->workspace);
  }
  return NULL;
}

static void serve(const int32_t request[4]) {
  const network *n = running = &networks[request[0]];
  const int placement = request[1], threads = request[3];
  job jobs[4];
  unsigned char *blob = take("weights", n->weights, 64, placement);
  get(blob, n->weights);
  only_read(&areas[used - 1]);
  for (int t = 0; t < threads; ++t) jobs[t] = (job){ .n = n, .times = request[2] };
  for (int i = 0; i < n->inputs; ++i) {
    jobs[0].tensors[i] = (float *)(void *)take(n->names[i], n->bytes[i], 4, placement);
    get(jobs[0].tensors[i], n->bytes[i]);
    only_read(&areas[used - 1]);
    for (int t = 1; t < threads; ++t) jobs[t].tensors[i] = jobs[0].tensors[i];
  }
  for (int t = 0; t < threads; ++t) {
    for (int i = n->inputs; i < n->inputs + n->outputs; ++i) {
      jobs[t].tensors[i] = (float *)(void *)take(n->names[i], n->bytes[i], 4, placement);
      memset(jobs[t].tensors[i], 0xff, n->bytes[i]);
    }
    jobs[t].workspace = take("workspace", n->workspace, 64, placement);
  }
  int32_t code = n->bind(&jobs[0].weights, blob, n->weights);
  if (!code && threads == 1) {
    work(&jobs[0]);
  } else if (!code) {
    pthread_t ids[4];
    for (int t = 0; t < threads; ++t) {
      jobs[t].weights = jobs[0].weights;
      if (pthread_create(&ids[t], NULL, work, &jobs[t])) fail("no thread");
    }
    for (int t = 0; t < threads; ++t) pthread_join(ids[t], NULL);
  }
  for (int t = 0; t < threads; ++t) {
    const int32_t answer = code ? code : jobs[t].code;
    fwrite(&answer, sizeof answer, 1, stdout);
    for (int i = n->inputs; i < n->inputs + n->outputs; ++i) fwrite(jobs[t].tensors[i], n->bytes[i], 1, stdout);
  }
  give_back();
}

int main(void) {
  int32_t request[4];
  struct sigaction action = { .sa_sigaction = report, .sa_flags = SA_SIGINFO };
  page = (size_t)sysconf(_SC_PAGESIZE);
  if (!getenv("NO_HANDLER")) {
    sigaction(SIGSEGV, &action, NULL);
    sigaction(SIGBUS, &action, NULL);
    sigaction(SIGILL, &action, NULL);
  }
  while (fread(request, sizeof request, 1, stdin) == 1) serve(request);
  return 0;
}
