/* What a row of N:M weights could do instead of a dense convolution: read only the inputs that it has weights
   for. Two forms, for bench_sparse.py. Pixels lie in blocks of LANES channels (lanes) or channel by channel (planes). */
#include <stdint.h>
#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif
#include <time.h>

#if defined(__AVX512F__)
enum { LANES = 16 };
typedef __m512 vec;
#define LOAD _mm512_loadu_ps
#define STORE _mm512_storeu_ps
#define GATHER(x, t) _mm512_i32gather_ps(_mm512_loadu_si512(t), x, 4)
#define FMA _mm512_fmadd_ps
#define SET1 _mm512_set1_ps
#elif defined(__AVX2__)
enum { LANES = 8 };
typedef __m256 vec;
#define LOAD _mm256_loadu_ps
#define STORE _mm256_storeu_ps
#define GATHER(x, t) _mm256_i32gather_ps(x, _mm256_loadu_si256((const __m256i *)(t)), 4)
#define FMA _mm256_fmadd_ps
#define SET1 _mm256_set1_ps
#else
enum { LANES = 4 };
typedef struct { float v[4]; } vec;
static vec LOAD(const float *p) { vec a; for (int i = 0; i < 4; ++i) a.v[i] = p[i]; return a; }
static void STORE(float *p, vec a) { for (int i = 0; i < 4; ++i) p[i] = a.v[i]; }
static vec GATHER(const float *x, const int32_t *t) { vec a; for (int i = 0; i < 4; ++i) a.v[i] = x[t[i]]; return a; }
static vec FMA(vec a, vec b, vec c) { for (int i = 0; i < 4; ++i) c.v[i] += a.v[i] * b.v[i]; return c; }
static vec SET1(float s) { vec a; for (int i = 0; i < 4; ++i) a.v[i] = s; return a; }
#endif

int lanes(void) { return LANES; }

/* A vector of outputs, each lane with a list of its own: x and y in blocks, `pixels` each, table[block][input][lane]. */
void by_lanes(const float *x, float *y, const float *w, const int32_t *table, int blocks, int kept, int pixels) {
  for (int b = 0; b < blocks; ++b)
    for (int p = 0; p < pixels; p += 4) {
      const float *xp = x + (long)p * LANES;
      vec a0 = SET1(0), a1 = a0, a2 = a0, a3 = a0;
      for (int i = 0; i < kept; ++i) {
        const int32_t *t = table + (long)(b * kept + i) * LANES;
        const vec v = LOAD(w + (long)(b * kept + i) * LANES);
        a0 = FMA(v, GATHER(xp, t), a0);
        a1 = FMA(v, GATHER(xp + LANES, t), a1);
        a2 = FMA(v, GATHER(xp + 2 * LANES, t), a2);
        a3 = FMA(v, GATHER(xp + 3 * LANES, t), a3);
      }
      float *yp = y + ((long)b * pixels + p) * LANES;
      STORE(yp, a0), STORE(yp + LANES, a1), STORE(yp + 2 * LANES, a2), STORE(yp + 3 * LANES, a3);
    }
}

/* One output channel after the other over planes, pixels in the lanes: 4 vectors of pixels share a weight. */
void by_planes(const float *x, float *y, const float *w, const int32_t *table, int outs, int kept, int pixels) {
  for (int p = 0; p < pixels; p += 4 * LANES)
    for (int o = 0; o < outs; ++o) {
      vec a0 = SET1(0), a1 = a0, a2 = a0, a3 = a0;
      for (int i = 0; i < kept; ++i) {
        const float *xp = x + (long)table[o * kept + i] * pixels + p;
        const vec v = SET1(w[o * kept + i]);
        a0 = FMA(v, LOAD(xp), a0);
        a1 = FMA(v, LOAD(xp + LANES), a1);
        a2 = FMA(v, LOAD(xp + 2 * LANES), a2);
        a3 = FMA(v, LOAD(xp + 3 * LANES), a3);
      }
      float *yp = y + (long)o * pixels + p;
      STORE(yp, a0), STORE(yp + LANES, a1), STORE(yp + 2 * LANES, a2), STORE(yp + 3 * LANES, a3);
    }
}

/* There and back: what planes between blocks cost. */
void to_planes(const float *x, float *y, int channels, int pixels) {
  for (int c = 0; c < channels; ++c)
    for (int p = 0; p < pixels; ++p) y[(long)c * pixels + p] = x[((long)(c / LANES) * pixels + p) * LANES + c % LANES];
}

double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
