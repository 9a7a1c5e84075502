/* Portable C99.
 *
 * A vector is a struct of V_LANES floats and every word a loop over them. Plain loops on purpose: gcc from version
 * 12 and clang turn each into the CPU's vectors at -O2 and keep the struct in registers (written out lane by lane,
 * gcc 12 kept it in memory). Compile with -ffp-contract=off; no word is fused then, on any CPU. */
#ifndef V_LANES
#define V_LANES 4
#endif
#if V_LANES < 2 || V_LANES > 64 || (V_LANES & (V_LANES - 1))
#error "V_LANES has to be a power of two from 2 to 64"
#endif
#define V_X 4
#define V_FUSED 0
#define V_PIN(v) ((void)(v))
#define V_EACH for (int i = 0; i < V_LANES; ++i)

typedef struct { float f[V_LANES]; } vf32;
typedef struct { uint32_t u[V_LANES]; } vi32;
typedef const float *vx;

/* An elementary function of x. Calls go through memory: by value a struct of four floats travels as two halves, and
 * joining them waits for stores to reach the cache (gcc 12 on Zen 5: 28 ns a call instead of 6). */
#define V_UNARY(name) \
  V_FN vf32 name##_of(vf32 x); \
  V_BIG void name##_at(vf32 *x) { *x = name##_of(*x); } \
  V_FN vf32 name(vf32 x) { name##_at(&x); return x; } \
  V_FN vf32 name##_of(vf32 x)

V_FN vf32 v_set1(float s) { vf32 r; V_EACH r.f[i] = s; return r; }
V_FN vf32 v_zero(void) { return v_set1(0.0f); }
V_FN vf32 v_load(const float *p) { vf32 r; V_EACH r.f[i] = p[i]; return r; }
V_FN void v_store(float *p, vf32 a) { V_EACH p[i] = a.f[i]; }
V_FN vf32 v_load_n(const float *p, int n) {
  vf32 r = v_zero();
  for (int i = 0; i < n && i < V_LANES; ++i) r.f[i] = p[i];
  return r;
}
V_FN void v_store_n(float *p, vf32 a, int n) {
  for (int i = 0; i < n && i < V_LANES; ++i) p[i] = a.f[i];
}

V_FN vf32 v_add(vf32 a, vf32 b) { vf32 r; V_EACH r.f[i] = a.f[i] + b.f[i]; return r; }
V_FN vf32 v_sub(vf32 a, vf32 b) { vf32 r; V_EACH r.f[i] = a.f[i] - b.f[i]; return r; }
V_FN vf32 v_mul(vf32 a, vf32 b) { vf32 r; V_EACH r.f[i] = a.f[i] * b.f[i]; return r; }
V_FN vf32 v_div(vf32 a, vf32 b) { vf32 r; V_EACH r.f[i] = a.f[i] / b.f[i]; return r; }
V_FN vf32 v_fma(vf32 a, vf32 b, vf32 c) { return v_add(v_mul(a, b), c); }
V_FN vf32 v_min(vf32 c, vf32 x) { vf32 r; V_EACH r.f[i] = c.f[i] < x.f[i] ? c.f[i] : x.f[i]; return r; }
V_FN vf32 v_max(vf32 c, vf32 x) { vf32 r; V_EACH r.f[i] = c.f[i] > x.f[i] ? c.f[i] : x.f[i]; return r; }
V_FN vf32 v_less(vf32 a, vf32 b, vf32 x, vf32 y) {
  vf32 r;
  V_EACH r.f[i] = a.f[i] < b.f[i] ? x.f[i] : y.f[i];
  return r;
}
V_FN vf32 v_max_nan(vf32 a, vf32 b) {
  vf32 r;
  V_EACH r.f[i] = ((a.f[i] <= b.f[i]) | (b.f[i] != b.f[i])) ? b.f[i] : a.f[i];
  return r;
}

/* Float by float: through a union of the structs, gcc 12 for 32-bit Arm read some lanes before they were written. */
typedef union { float f; uint32_t u; } v_pun;
V_FN vi32 vi_bits(vf32 a) { vi32 r; V_EACH { v_pun p; p.f = a.f[i]; r.u[i] = p.u; } return r; }
V_FN vf32 vi_float(vi32 a) { vf32 r; V_EACH { v_pun p; p.u = a.u[i]; r.f[i] = p.f; } return r; }
V_FN vi32 vi_set1(uint32_t s) { vi32 r; V_EACH r.u[i] = s; return r; }
V_FN vi32 vi_add(vi32 a, vi32 b) { vi32 r; V_EACH r.u[i] = a.u[i] + b.u[i]; return r; }
V_FN vi32 vi_sub(vi32 a, vi32 b) { vi32 r; V_EACH r.u[i] = a.u[i] - b.u[i]; return r; }
V_FN vi32 vi_and(vi32 a, vi32 b) { vi32 r; V_EACH r.u[i] = a.u[i] & b.u[i]; return r; }
V_FN vi32 vi_or(vi32 a, vi32 b) { vi32 r; V_EACH r.u[i] = a.u[i] | b.u[i]; return r; }
V_FN vi32 vi_shl23(vi32 a) { vi32 r; V_EACH r.u[i] = a.u[i] << 23; return r; }
V_FN vi32 vi_shr23(vi32 a) { vi32 r; V_EACH r.u[i] = a.u[i] >> 23; return r; }
V_FN vi32 vi_shr1(vi32 a) { vi32 r; V_EACH r.u[i] = a.u[i] >> 1; return r; }
V_FN vf32 v_abs(vf32 a) { return vi_float(vi_and(vi_bits(a), vi_set1(0x7fffffffu))); }

/* The correctly rounded root, bit by bit, so that no library is needed. a = m 2^e; n = m 2^s has a root of 25 bits,
 * the last of which is the one to round by. It is never a tie, since an odd root would have an odd square. */
V_BIG float v_sqrt_1(float a) {
  union { float f; uint32_t u; } b;
  b.f = a;
  if (a == 0.0f || b.u == 0x7f800000u || a != a) return a;
  if (b.u >> 31) { b.u = 0x7fc00000u; return b.f; }
  uint32_t m = b.u & 0x7fffffu;
  int32_t e = (int32_t)(b.u >> 23) - 150;
  if (e == -150) e = -149; else m |= 0x800000u;
  while (m < 0x800000u) { m <<= 1; --e; }
  const int32_t s = e & 1 ? 25 : 26;
  uint64_t n = (uint64_t)m << s, root = 0;
  for (uint64_t bit = (uint64_t)1 << 48; bit; bit >>= 2) {
    const uint64_t trial = root + bit;
    root >>= 1;
    if (n >= trial) { n -= trial; root += bit; }
  }
  b.u = ((uint32_t)((e - s) / 2 + 151) << 23) + ((uint32_t)((root + 1) >> 1) - 0x800000u);
  return b.f;
}
V_FN vf32 v_sqrt(vf32 a) { vf32 r; V_EACH r.f[i] = v_sqrt_1(a.f[i]); return r; }

V_FN vf32 v_pick(vf32 a, const int32_t *from) { vf32 r; V_EACH r.f[i] = a.f[from[i]]; return r; }
V_FN vf32 v_even(vf32 a, vf32 b) {
  vf32 r;
  for (int i = 0; i < V_LANES / 2; ++i) { r.f[i] = a.f[2 * i]; r.f[i + V_LANES / 2] = b.f[2 * i]; }
  return r;
}
V_FN vf32 v_odd(vf32 a, vf32 b) {
  vf32 r;
  for (int i = 0; i < V_LANES / 2; ++i) { r.f[i] = a.f[2 * i + 1]; r.f[i + V_LANES / 2] = b.f[2 * i + 1]; }
  return r;
}
V_FN vf32 v_halves(vf32 a, vf32 b) { vf32 r; V_EACH r.f[i] = i < V_LANES / 2 ? a.f[i] : b.f[i]; return r; }
V_FN vf32 v_load_halves(const float *p, const float *q) {
  vf32 r;
  for (int i = 0; i < V_LANES / 2; ++i) { r.f[i] = p[i]; r.f[i + V_LANES / 2] = q[i]; }
  return r;
}
V_FN void v_store_halves(float *p, float *q, vf32 a) {
  for (int i = 0; i < V_LANES / 2; ++i) { p[i] = a.f[i]; q[i] = a.f[i + V_LANES / 2]; }
}
V_FN float v_sum(vf32 a) {
  for (int h = V_LANES / 2; h > 0; h /= 2) for (int i = 0; i < h; ++i) a.f[i] += a.f[i + h];
  return a.f[0];
}
V_FN float v_max_all(vf32 a) {
  float m = a.f[0];
  for (int i = 1; i < V_LANES; ++i) m = ((m > a.f[i]) | (m != m)) ? m : a.f[i];
  return m;
}

V_FN vx x_load(const float *p) { return p; }
V_FN vx x_load_n(const float *p, int n) { (void)n; return p; }
V_FN vf32 v_fma_1(vf32 acc, vf32 w, const float *p) { return v_fma(w, v_set1(*p), acc); }
#define v_fma_x(acc, w, x, j) v_fma_1(acc, w, (x) + (j))
