/* Functions that hardly any network has, lane by lane in double arithmetic: the same digits everywhere. Pasted where a
 * kernel uses one of them. No library is needed but the compiler's own, where a CPU has no instructions for doubles.
 * Largest distance from the exact value in units of the last place; NaN stays:
 *
 *                  fused  not fused
 *   v_sin(x)        0.51     0.51     NaN at infinities
 *   v_cos(x)        0.51     0.51     NaN at infinities
 *   v_tan(x)        0.51     0.51     NaN at infinities
 *   v_asin(x)       0.51     0.51     NaN beyond -1 .. 1
 *   v_acos(x)       0.51     0.51     NaN beyond -1 .. 1
 *   v_atan(x)       0.51     0.51     pi / 2 at inf
 *   v_sinh(x)       0.51     0.51     inf at inf
 *   v_cosh(x)       0.51     0.51     inf at both infinities
 *   v_asinh(x)      0.51     0.51     inf at inf
 *   v_acosh(x)      0.51     0.51     NaN below 1
 *   v_atanh(x)      0.51     0.51     NaN beyond -1 .. 1, infinite at the ends
 *   v_power(a, b)   0.51     0.51     as pow of C: whole powers of negative numbers too
 *   v_fmod(a, b)     0.0      0.0     the remainder with the sign of a
 *   v_mod(a, b)     0.51     0.51     that with the sign of b: v_fmod, to which b may be added
 */

#define D_INF (1.0 / 0.0)
#define D_HALF_PI 0x1.921fb54442d18p+0

typedef union { double d; uint64_t u; } d_bits;

V_FN double d_nan(void) { d_bits b; b.u = (uint64_t)0x7ff8 << 48; return b.d; } /* 0.0 / 0.0 has a sign on x86 */

V_BIG double d_sqrt(double a) { /* a >= 0; Newton from half the exponent */
  d_bits b;
  if (!(a > 0.0) || a > 0x1p1000) return a;
  b.d = a;
  b.u = (b.u >> 1) + ((uint64_t)0x1ff8 << 48);
  for (int i = 0; i < 5; ++i) b.d = 0.5 * (b.d + a / b.d);
  return b.d;
}

V_BIG double d_exp(double x) { /* 2^n e^r, the series up to r^13 / 13! */
  d_bits b;
  if (x != x) return x;
  if (x > 160.0) return D_INF;
  if (x < -160.0) return 0.0;
  const int n = (int)(x * 0x1.71547652b82fep+0 + (x < 0.0 ? -0.5 : 0.5));
  const double r = x - n * 0x1.62e42feep-1 - n * 0x1.a39ef35793c76p-33;
  double y = 1.0;
  for (int i = 13; i > 0; --i) y = 1.0 + y * r / i;
  b.u = (uint64_t)(n + 1023) << 52;
  return y * b.d;
}

V_BIG double d_log(double a) { /* a = m 2^n with m near 1, log m = 2 (s + s^3 / 3 + ..), s = (m - 1) / (m + 1) */
  d_bits b;
  if (!(a > 0.0)) return a < 0.0 || a != a ? d_nan() : -D_INF;
  if (a > 0x1p1000) return a;
  b.d = a;
  const int n = (int)((b.u + 0x00095f619980c433u) >> 52) - 1023;
  b.u -= (uint64_t)n << 52;
  const double s = (b.d - 1.0) / (b.d + 1.0), z = s * s;
  double y = 0.0;
  for (int i = 21; i > 0; i -= 2) y = y * z + 1.0 / i;
  return n * 0x1.62e42feep-1 + (n * 0x1.a39ef35793c76p-33 + 2.0 * s * y);
}

/* x, a float, is k pi / 2 + *r with |*r| <= pi / 4 or little more; k's last two bits. From 2^25 on x = m 2^e, and m times 96 bits
 * of 2 / pi, those that matter, is that modulo 4 (Payne and Hanek 1983). */
V_BIG unsigned d_quadrant(double x, double *r) {
  static const uint32_t two_by_pi[] = {
    0xa2f9836eu, 0x4e441529u, 0xfc2757d1u, 0xf534ddc0u, 0xdb629599u, 0x3c439041u, 0xfe5163abu, 0xdebbc561u };
  const double magnitude = x < 0.0 ? -x : x;
  unsigned k;
  if (magnitude < 0x1p25) {
    k = (unsigned)(magnitude * 0x1.45f306dc9c883p-1 + 0.5);
    *r = magnitude - k * 0x1.921fb54p+0 - k * 0x1.10b461p-30 - k * 0x1.a62633145c06ep-58;
  } else {
    union { float f; uint32_t u; } b;
    b.f = (float)x;
    const uint32_t m = (b.u & 0x7fffffu) | 0x800000u, e = (b.u >> 23 & 0xffu) - 150u - 2u, at = e / 32, shift = e % 32;
    uint32_t w[3];
    for (uint32_t i = 0; i < 3; ++i) {
      const uint64_t both = (uint64_t)two_by_pi[at + i] << 32 | two_by_pi[at + i + 1];
      w[i] = (uint32_t)(both >> (32 - shift));
    }
    const uint64_t low = (uint64_t)m * w[2], middle = (uint64_t)m * w[1] + (low >> 32);
    const uint64_t high = (uint64_t)m * w[0] + (middle >> 32);
    const uint64_t turn = high << 32 | (middle & 0xffffffffu), rest = turn << 2;
    const int up = rest >> 63 != 0;
    k = (unsigned)(turn >> 62) + (unsigned)up;
    const uint64_t distance = up ? ~rest + 1u : rest;
    *r = ((uint32_t)(distance >> 32) * 0x1p-32 + (uint32_t)distance * 0x1p-64) * D_HALF_PI;
    if (up) *r = -*r;
  }
  if (x < 0.0) { *r = -*r; k = 0u - k; }
  return k & 3u;
}
V_BIG double d_sin_near(double r) {
  double y = 1.0;
  for (int i = 14; i > 0; i -= 2) y = 1.0 - y * r * r / (i * (i + 1));
  return y * r;
}
V_BIG double d_cos_near(double r) {
  double y = 1.0;
  for (int i = 15; i > 0; i -= 2) y = 1.0 - y * r * r / (i * (i + 1));
  return y;
}
V_BIG double d_turned(double x, unsigned turns) { /* sin(x + turns pi / 2) */
  double r;
  if (!(x - x == 0.0)) return d_nan();
  const unsigned k = d_quadrant(x, &r) + turns;
  const double y = k & 1u ? d_cos_near(r) : d_sin_near(r);
  return k & 2u ? -y : y;
}

V_BIG double d_atan(double x) { /* the series below tan(pi / 8), to which two identities bring all others */
  const double a = x < 0.0 ? -x : x;
  double base = 0.0, t = a;
  if (x != x) return x;
  if (a > 0x1.3504f333f9de6p+1) { base = D_HALF_PI; t = -1.0 / a; }
  else if (a > 0x1.a827999fcef32p-2) { base = 0.5 * D_HALF_PI; t = (a - 1.0) / (a + 1.0); }
  double y = 0.0;
  for (int i = 33; i > 0; i -= 2) y = 1.0 / i - y * t * t;
  y = base + y * t;
  return x < 0.0 ? -y : y;
}

#define S_UNARY(name, value) \
  V_BIG float s_##name(double x) { return (float)(value); } \
  V_UNARY(v_##name) { \
    float f[V_LANES]; \
    v_store(f, x); \
    for (int i = 0; i < V_LANES; ++i) f[i] = s_##name(f[i]); \
    return v_load(f); \
  }
#define S_BINARY(name) \
  V_BIG vf32 v_##name(vf32 a, vf32 b) { \
    float f[V_LANES], g[V_LANES]; \
    v_store(f, a); \
    v_store(g, b); \
    for (int i = 0; i < V_LANES; ++i) f[i] = s_##name(f[i], g[i]); \
    return v_load(f); \
  }

S_UNARY(sin, x == 0.0 ? x : d_turned(x, 0))
S_UNARY(cos, d_turned(x, 1))
S_UNARY(tan, x == 0.0 ? x : d_turned(x, 0) / d_turned(x, 1))
S_UNARY(atan, x == 0.0 ? x : d_atan(x))
S_UNARY(asin, x == 0.0 ? x : x * x > 1.0 ? d_nan() : d_atan(x / d_sqrt((1.0 - x) * (1.0 + x))))
S_UNARY(acos, x * x > 1.0 ? d_nan() : 2.0 * d_atan(d_sqrt((1.0 - x) / (1.0 + x))))
S_UNARY(sinh, x * x < 0.25 ? x * (1.0 + x * x / 6.0 * (1.0 + x * x / 20.0 * (1.0 + x * x / 42.0 * (1.0 + x * x / 72.0))))
                           : 0.5 * (d_exp(x) - d_exp(-x)))
S_UNARY(cosh, 0.5 * (d_exp(x) + d_exp(-x)))
S_UNARY(asinh, x * x < 1e-6 ? x * (1.0 - x * x / 6.0)
                            : x < 0.0 ? -d_log(d_sqrt(x * x + 1.0) - x) : d_log(d_sqrt(x * x + 1.0) + x))
S_UNARY(acosh, x < 1.0 ? d_nan() : d_log(x + d_sqrt((x - 1.0) * (x + 1.0))))
S_UNARY(atanh, x * x < 1e-6 ? x * (1.0 + x * x / 3.0) : 0.5 * d_log((1.0 + x) / (1.0 - x)))

V_BIG int s_odd(float b) { /* 0: no whole number, 1: an odd one, 2: an even one, as all from 2^24 on are */
  const double a = b < 0.0f ? -(double)b : (double)b;
  if (a >= 0x1p24) return 2;
  const uint32_t n = (uint32_t)a;
  return (double)n < a ? 0 : n & 1u ? 1 : 2;
}
V_BIG float s_power(float a, float b) {
  const int whole = s_odd(b), negative = a < 0.0f || (a == 0.0f && 1.0f / a < 0.0f);
  const double magnitude = negative ? -(double)a : (double)a;
  if (b == 0.0f || a == 1.0f || (a == -1.0f && !(b - b == 0.0f) && b == b)) return 1.0f;
  if (a != a || b != b || (a < 0.0f && !whole && magnitude < 0x1p200)) return (float)d_nan();
  const double y = d_exp((double)b * d_log(magnitude));
  return (float)(negative && whole == 1 ? -y : y);
}
S_BINARY(power)

V_BIG float s_fmod(float a, float b) { /* long division, digit by digit */
  double x = a < 0.0f ? -(double)a : (double)a, y = b < 0.0f ? -(double)b : (double)b, step = y;
  if (!(a - a == 0.0f) || b != b || b == 0.0f) return (float)d_nan();
  if (y > 0x1p200 || x < y) return a;
  while (step <= 0.5 * x) step *= 2.0;
  for (; step >= y; step *= 0.5) if (x >= step) x -= step;
  return (float)(a < 0.0f ? -x : x);
}
S_BINARY(fmod)
V_BIG float s_mod(float a, float b) {
  const float r = s_fmod(a, b);
  return r != 0.0f && (r < 0.0f) != (b < 0.0f) ? r + b : r;
}
S_BINARY(mod)
