/* A plugin for QEMU's user mode: which blocks of code ran how often, between marks.
 *
 * The guest makes a mark by calling getppid(). Each mark closes an interval, and so does the end of the program; interval 0
 * is what ran before the first mark. Classifying instructions and estimating cycles is done by who reads the output:
 *
 *   B id address bytes,bytes,... symbol    a block, before it is first named; one group of hex bytes per instruction
 *   R id times                             the block ran so often in the interval that is closed next
 *   C reads writes l1 l2 next              with cache=1: accesses, misses per level, misses of l2 next to a recent miss
 *   I number                               the end of this interval
 *
 * Arguments: out=FILE, and for a model of the data cache cache=1,l1=BYTES,l1ways=N,l2=BYTES,l2ways=N.
 *
 * Only what is used of the plugin interface (version 1, QEMU 6.0 and later) is declared here, so that no header of QEMU is
 * needed. Counters are not atomic: guests with one thread only. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef struct {
  const char *target_name;
  struct { int min, cur; } version;
  bool system_emulation;
  struct { int smp_vcpus, max_vcpus; } system;
} plugin_info;
enum { ADD_U64 = 0, NO_REGISTERS = 0, READS_AND_WRITES = 3 };

extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *, uint64_t);
extern void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *, void (*)(unsigned, uint32_t, uint64_t, void *),
                                             int, int, void *);
extern void qemu_plugin_register_vcpu_syscall_cb(plugin_id, void (*)(plugin_id, unsigned, int64_t, uint64_t, uint64_t,
                                                 uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t));
extern void qemu_plugin_register_atexit_cb(plugin_id, void (*)(plugin_id, void *), void *);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *);
extern const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
extern size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);
extern const char *qemu_plugin_insn_symbol(const struct qemu_plugin_insn *);
extern unsigned qemu_plugin_mem_size_shift(uint32_t);
extern bool qemu_plugin_mem_is_store(uint32_t);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;

/* ---- blocks ---- */

typedef struct {
  uint64_t count, reported, address;
  char *text; /* the B line after the id; NULL once written */
} block;

static block **blocks;
static size_t used, room;
static int64_t mark;
static int interval;
static FILE *out;

static void *grown(void *p, size_t bytes) {
  p = realloc(p, bytes);
  if (!p) { fputs("count plugin: out of memory\n", stderr); exit(3); }
  return p;
}

static char *described(const struct qemu_plugin_tb *tb, size_t n) {
  char *text = grown(NULL, n * 33 + 1), *p = text; /* instructions of at most 16 bytes */
  for (size_t i = 0; i < n; ++i) {
    const struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
    const unsigned char *bytes = qemu_plugin_insn_data(insn);
    if (i) *p++ = ',';
    for (size_t k = 0; k < qemu_plugin_insn_size(insn); ++k) p += sprintf(p, "%02x", bytes[k]);
  }
  const char *symbol = n ? qemu_plugin_insn_symbol(qemu_plugin_tb_get_insn(tb, 0)) : NULL;
  if (!symbol || !*symbol) symbol = "-";
  const size_t length = (size_t)(p - text);
  text = grown(text, length + strlen(symbol) + 2);
  sprintf(text + length, " %s", symbol);
  return text;
}

/* ---- the data cache: two levels, least recently used goes, writes allocate, nothing is fetched ahead ---- */

typedef struct {
  uint64_t *lines, misses;
  size_t ways, sets, bytes;
} cache;
static cache l1 = {.bytes = 32768, .ways = 4}, l2 = {.bytes = 524288, .ways = 16};
static uint64_t recent[4], next_to_recent, reads, writes;
static bool caches;

static void prepare(cache *c) {
  c->sets = c->bytes / 64 / c->ways;
  c->lines = grown(NULL, c->sets * c->ways * sizeof *c->lines);
  memset(c->lines, 0xff, c->sets * c->ways * sizeof *c->lines);
}

static bool hit(cache *c, uint64_t line) {
  uint64_t *set = c->lines + line % c->sets * c->ways;
  size_t i = 0;
  while (i < c->ways && set[i] != line) ++i;
  const bool found = i < c->ways;
  memmove(set + 1, set, (found ? i : c->ways - 1) * sizeof *set);
  set[0] = line;
  c->misses += !found;
  return found;
}

static void missed(uint64_t line) {
  for (int i = 0; i < 4; ++i)
    if (line == recent[i] + 1 || line + 1 == recent[i]) {
      recent[i] = line;
      ++next_to_recent;
      return;
    }
  memmove(recent + 1, recent, 3 * sizeof *recent);
  recent[0] = line;
}

static void on_access(unsigned cpu, uint32_t info, uint64_t address, void *unused) {
  const uint64_t last = (address + ((uint64_t)1 << qemu_plugin_mem_size_shift(info)) - 1) / 64;
  (void)cpu, (void)unused;
  if (qemu_plugin_mem_is_store(info)) ++writes; else ++reads;
  for (uint64_t line = address / 64; line <= last; ++line)
    if (!hit(&l1, line) && !hit(&l2, line)) missed(line);
}

/* ---- what QEMU calls ---- */

static void on_translation(plugin_id id, struct qemu_plugin_tb *tb) {
  const size_t n = qemu_plugin_tb_n_insns(tb);
  block *b = grown(NULL, sizeof *b);
  (void)id;
  *b = (block){.address = qemu_plugin_tb_vaddr(tb), .text = described(tb, n)};
  for (size_t i = 0; caches && i < n; ++i)
    qemu_plugin_register_vcpu_mem_cb(qemu_plugin_tb_get_insn(tb, i), on_access, NO_REGISTERS, READS_AND_WRITES, NULL);
  if (used == room) blocks = grown(blocks, (room = room ? 2 * room : 4096) * sizeof *blocks);
  blocks[used++] = b;
  qemu_plugin_register_vcpu_tb_exec_inline(tb, ADD_U64, &b->count, 1);
}

static void close_interval(void) {
  for (size_t i = 0; i < used; ++i) {
    block *b = blocks[i];
    if (b->count == b->reported) continue;
    if (b->text) fprintf(out, "B %zu %" PRIx64 " %s\n", i, b->address, b->text);
    free(b->text);
    b->text = NULL;
    fprintf(out, "R %zu %" PRIu64 "\n", i, b->count - b->reported);
    b->reported = b->count;
  }
  if (caches) {
    fprintf(out, "C %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", reads, writes, l1.misses, l2.misses,
            next_to_recent);
    reads = writes = l1.misses = l2.misses = next_to_recent = 0;
  }
  fprintf(out, "I %d\n", interval++);
  fflush(out);
}

static void on_system_call(plugin_id id, unsigned cpu, int64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d,
                           uint64_t e, uint64_t f, uint64_t g, uint64_t h) {
  (void)id, (void)cpu, (void)a, (void)b, (void)c, (void)d, (void)e, (void)f, (void)g, (void)h;
  if (number == mark) close_interval();
}

static void on_exit(plugin_id id, void *unused) {
  (void)id, (void)unused;
  close_interval();
}

static bool understood(const char *argument) {
  const char *value = strchr(argument, '=');
  if (!value++) return false;
  const size_t key = (size_t)(value - argument - 1);
  if (key == 3 && !memcmp(argument, "out", key)) return (out = fopen(value, "w")) != NULL;
  if (key == 5 && !memcmp(argument, "cache", key)) return (caches = atoi(value)), true;
  cache *level = !memcmp(argument, "l1", 2) ? &l1 : &l2;
  if (key == 2) return (level->bytes = strtoul(value, NULL, 10)) >= 64;
  return key == 6 && (level->ways = strtoul(value, NULL, 10)) > 0;
}

__attribute__((visibility("default"))) int qemu_plugin_install(plugin_id id, const plugin_info *info, int argc,
                                                               char **argv) {
  const struct { const char *machine; int64_t getppid; } marks[] = {{"aarch64", 173}, {"arm", 64}, {"x86_64", 110}};
  out = stderr;
  mark = -1;
  for (size_t i = 0; i < sizeof marks / sizeof *marks; ++i)
    if (!strcmp(info->target_name, marks[i].machine)) mark = marks[i].getppid;
  for (int i = 0; i < argc; ++i)
    if (!understood(argv[i])) {
      fprintf(stderr, "count plugin: cannot use `%s`\n", argv[i]);
      return -1;
    }
  if (caches) prepare(&l1), prepare(&l2);
  qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
  qemu_plugin_register_vcpu_syscall_cb(id, on_system_call);
  qemu_plugin_register_atexit_cb(id, on_exit, NULL);
  return 0;
}
