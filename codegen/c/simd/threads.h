/* A crew: CREW_THREADS - 1 threads that help the one that calls. This text is part of generated code and
 * belongs to whoever generated it.
 *
 * The steps of a network are cut into parts. Each thread takes its own part of a step, then any that nobody has
 * begun: who is late keeps nobody waiting but for a part that it has begun. Who has to wait looks for 50
 * microseconds, then sleeps. The threads start with the first call that wants them, and end with crew_stop() or
 * with the library. A call that finds the crew at work runs on its own. After fork() the child begins afresh. */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <time.h>

#define CREW_SPIN_NS 50000
#define CREW_LINE __attribute__((aligned(128))) /* what different threads write lies apart */
/* The modes of the floating-point unit (rounding, flushing to zero): helpers compute in those of the caller. */
#if defined(__x86_64__)
#define CREW_PAUSE() __builtin_ia32_pause()
#define CREW_GET_MODE(mode) ((mode) = __builtin_ia32_stmxcsr())
#define CREW_SET_MODE(mode) __builtin_ia32_ldmxcsr((unsigned)(mode))
#elif defined(__aarch64__)
#define CREW_PAUSE() __asm__ volatile("yield")
#define CREW_GET_MODE(mode) __asm__ volatile("mrs %0, fpcr" : "=r"(mode))
#define CREW_SET_MODE(mode) __asm__ volatile("msr fpcr, %0" : : "r"(mode))
#elif defined(__arm__) && defined(__ARM_FP)
#define CREW_PAUSE() __asm__ volatile("yield")
#define CREW_GET_MODE(mode) __asm__ volatile("vmrs %0, fpscr" : "=r"(mode))
#define CREW_SET_MODE(mode) __asm__ volatile("vmsr fpscr, %0" : : "r"(mode))
#else
#define CREW_PAUSE() ((void)0)
#define CREW_GET_MODE(mode) ((mode) = 0)
#define CREW_SET_MODE(mode) ((void)(mode))
#endif
#define CREW_GET(word) __atomic_load_n(word, __ATOMIC_SEQ_CST)
#define CREW_SET(word, value) __atomic_store_n(word, value, __ATOMIC_SEQ_CST)
#define CREW_ADD(word, value) __atomic_add_fetch(word, value, __ATOMIC_SEQ_CST)

typedef void crew_work(const void *call, int me);

typedef struct {
  pthread_mutex_t lock;
  pthread_cond_t changed;
  int sleepers; /* who waits for `changed` */
  int stopping;
  int started; /* threads of ours that run */
  pthread_t thread[CREW_THREADS];
  CREW_LINE int busy;          /* 1 while a call has the crew */
  CREW_LINE unsigned job;      /* odd while a call is open to helpers */
  CREW_LINE unsigned absent;   /* minus the helpers inside a call */
  CREW_LINE unsigned finished; /* parts of the call that are done */
  CREW_LINE crew_work *work;   /* the call, fixed while it is open */
  const void *call;
  int helpers;
  unsigned long mode;
} crew_state;

static crew_state crew = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
static int crew_forks; /* whether crew_after_fork is registered */
static unsigned crew_mark; /* of the latest image */
static CREW_LINE unsigned crew_taken[CREW_THREADS][CREW_STEPS]; /* the mark under which a part was last begun */

/* Whether a word that others count up (and that may wrap) is at least `value`. */
static int crew_reached(const unsigned *word, unsigned value) {
  return (int)(CREW_GET(word) - value) >= 0;
}

static void crew_await(const unsigned *word, unsigned value) {
  struct timespec start, now;
  if (crew_reached(word, value)) return;
  clock_gettime(CLOCK_MONOTONIC, &start);
  do {
    for (int i = 0; i < 32; ++i) {
      if (crew_reached(word, value)) return;
      CREW_PAUSE();
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
  } while ((now.tv_sec - start.tv_sec) * 1000000000L + now.tv_nsec - start.tv_nsec < CREW_SPIN_NS);
  pthread_mutex_lock(&crew.lock);
  CREW_ADD(&crew.sleepers, 1); /* before the last look: who changes the word looks for sleepers after that */
  while (!crew_reached(word, value)) pthread_cond_wait(&crew.changed, &crew.lock);
  CREW_ADD(&crew.sleepers, -1);
  pthread_mutex_unlock(&crew.lock);
}

/* After a word was changed that somebody may sleep for. */
static void crew_wake(void) {
  if (!CREW_GET(&crew.sleepers)) return;
  pthread_mutex_lock(&crew.lock);
  pthread_cond_broadcast(&crew.changed);
  pthread_mutex_unlock(&crew.lock);
}

/* Whether this thread is to run a part of a step: nobody has begun it under this mark, or under a later one (of the
 * next image of a batch). */
static int crew_take(int step, int part, unsigned mark) {
  unsigned *word = &crew_taken[part][step], last = __atomic_load_n(word, __ATOMIC_RELAXED);
  return last < mark && __atomic_compare_exchange_n(word, &last, mark, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

static void crew_finish(void) {
  CREW_ADD(&crew.finished, 1);
  crew_wake();
}

static void *crew_thread(void *number) {
  const int me = (int)(size_t)number;
  unsigned seen = CREW_GET(&crew.job) & ~1u;
  while (!CREW_GET(&crew.stopping)) {
    crew_await(&crew.job, seen + 1);
    seen = CREW_GET(&crew.job);
    if (!(seen & 1)) continue;
    CREW_ADD(&crew.absent, -1u); /* first come in, then see that the door is open */
    if (CREW_GET(&crew.job) == seen && me <= crew.helpers) {
      CREW_SET_MODE(crew.mode);
      crew.work(crew.call, me);
    }
    CREW_ADD(&crew.absent, 1u);
    crew_wake();
  }
  return NULL;
}

/* The state of a process without threads; what crew_taken holds stays, and so does crew_mark. */
static void crew_after_fork(void) {
  const crew_state fresh = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
  crew = fresh;
}

/* So many threads, or as many as the system gives. They take no signals: those are for the program's own. */
static int crew_start(int wanted) {
  sigset_t all, before;
  if (crew.started >= wanted) return wanted;
  if (!crew_forks) crew_forks = !pthread_atfork(NULL, NULL, crew_after_fork);
  if (!crew_forks) return 0;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  while (crew.started < wanted) {
    void *number = (void *)(size_t)(crew.started + 1);
    if (pthread_create(&crew.thread[crew.started], NULL, crew_thread, number)) break;
    ++crew.started;
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return crew.started;
}

/* For a call on several threads: 1 + how many helpers it has; 1 where the crew is at work elsewhere. */
static int crew_enter(int threads) {
  if (threads < 2 || __atomic_exchange_n(&crew.busy, 1, __ATOMIC_SEQ_CST)) return 1;
  const int helpers = crew_start(threads - 1);
  if (!helpers) CREW_SET(&crew.busy, 0);
  return helpers + 1;
}

/* A mark for each of so many images that nothing bears yet. Only within a call that has the crew. */
static unsigned crew_marks(unsigned images) {
  if (crew_mark + images < crew_mark) {
    memset(crew_taken, 0, sizeof crew_taken);
    crew_mark = 0;
  }
  crew_mark += images;
  return crew_mark - images + 1;
}

/* Run `work` as thread 0, the helpers as 1, 2 ...; it returns when all that anybody has begun is done. */
static void crew_run(int threads, crew_work *work, const void *call) {
  crew.work = work, crew.call = call, crew.helpers = threads - 1;
  CREW_GET_MODE(crew.mode);
  CREW_SET(&crew.finished, 0);
  CREW_ADD(&crew.job, 1u);
  crew_wake();
  work(call, 0);
  CREW_ADD(&crew.job, 1u);
  crew_await(&crew.absent, 0);
  CREW_SET(&crew.busy, 0);
}

static void crew_stop(void) {
  while (__atomic_exchange_n(&crew.busy, 1, __ATOMIC_SEQ_CST)) sched_yield();
  CREW_SET(&crew.stopping, 1);
  CREW_ADD(&crew.job, 2u);
  crew_wake();
  for (; crew.started; --crew.started) pthread_join(crew.thread[crew.started - 1], NULL);
  CREW_SET(&crew.stopping, 0);
  CREW_SET(&crew.busy, 0);
}

__attribute__((destructor)) static void crew_at_unload(void) { crew_stop(); }
