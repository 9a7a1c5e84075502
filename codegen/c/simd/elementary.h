/* For the borders of maps, lane by lane. */
V_FN vf32 v_load_each(const float *p, int s, int m, int n, vf32 a) {
  float f[V_LANES];
  v_store(f, a);
  for (int i = m; i < n; ++i) f[i] = p[(i - m) * s];
  return v_load(f);
}

/* Elementary functions on vectors, written once in the words above: no library, no tables, the same digits from
 * every compiler and on every instruction set where V_FUSED is 1 (where it is 0 the last bits may differ). The
 * polynomials are fits of ours (codegen/c/fit_elementary.py of compactir). Largest distance from the exact value,
 * in units of the result's last place (ULP):
 *
 *                  fused  not fused
 *   v_exp(x)        1.1      1.1     NaN stays; 0 at -inf, inf at inf
 *   v_exp2(x)       0.9      1.1     NaN stays; whole numbers give exact powers of two
 *   v_log2(x)       0.6      0.6     NaN below zero and at NaN; -inf at either zero, inf at inf
 *   v_tanh(x)       5.5      6.0     NaN stays; -0 at -0, 1 at inf, never above
 *   v_sigmoid(x)    2.5      2.5     NaN stays; 0 at -inf, 1 at inf
 *   v_swish(x)      2.5      2.5     x / (1 + e^-x): NaN at NaN and -inf; -0 for results between -2^-120 and 0
 *   v_pow(a, b)     2.5      3.0     NaN where a < 0 or either is NaN; 1 for b = 0; else 1e-27 < |b| < 1e34
 *
 * Found over all floats of magnitude 2^-13 and more and every fifth below, which gave 1.02 0.88 0.53 5.24 2.41 2.45 fused,
 * 1.00 1.08 0.53 5.94 2.41 2.35 not fused; v_pow over 10^8 samples where it is worst (|b log2 a| > 110): 2.31, 2.80; it
 * stays below 1.2 where |b log2 a| < 3. Denormals count like all other numbers, except on ARMv7, whose NEON takes and
 * returns 0 for them. */

#ifndef V_UNARY
#define V_UNARY(name) V_BIG vf32 name(vf32 x)
#endif

/* 1.5 * 2^23: adding it leaves the nearest whole number in the low bits of the sum. */
#define V_ROUND 12582912.0f
#define V_ROUND_BITS 0x4b400000u

/* p * 2^n for the whole number n that is left in t = n + V_ROUND, -152 <= n <= 129. Two factors, so that denormal
 * results are rounded once and 2^128 is never needed. */
V_FN vf32 v_scale(vf32 p, vf32 t) {
  const vi32 n = vi_sub(vi_bits(t), vi_set1(V_ROUND_BITS - 512u)); /* n + 512, above 0 */
  const vi32 half = vi_shr1(n);                                    /* floor(n / 2) + 256 */
  const vi32 one = vi_shl23(vi_sub(half, vi_set1(129u)));
  const vi32 two = vi_shl23(vi_sub(vi_sub(n, half), vi_set1(129u)));
  return v_mul(v_mul(p, vi_float(one)), vi_float(two));
}

/* 2^(t + r) for t = n + V_ROUND, |r| <= 0.5001. */
V_FN vf32 v_exp2_split(vf32 t, vf32 r) {
  vf32 q = v_set1(0x1.416b7ep-13f);
  q = v_fma(q, r, v_set1(0x1.5f0838p-10f));
  q = v_fma(q, r, v_set1(0x1.3b2de0p-7f));
  q = v_fma(q, r, v_set1(0x1.c6af7cp-5f));
  q = v_fma(q, r, v_set1(0x1.ebfbdcp-3f));
  q = v_fma(q, r, v_set1(0x1.62e430p-1f));
  return v_scale(v_fma(q, r, v_set1(1.0f)), t);
}

V_UNARY(v_exp2) {
  x = v_min(v_set1(129.0f), v_max(v_set1(-152.0f), x));
  const vf32 t = v_add(x, v_set1(V_ROUND));
  return v_exp2_split(t, v_sub(x, v_sub(t, v_set1(V_ROUND))));
}

/* x = n ln 2 + r (Cody and Waite: 0x1.63p-1 n is exact), e^r - 1 = r + r^2 q(r). */
V_FN vf32 v_exp_rest(vf32 x, vf32 n) {
  vf32 r = v_fma(n, v_set1(-0x1.63p-1f), x);
  r = v_fma(n, v_set1(0x1.bd0106p-13f), r);
  vf32 q = v_set1(0x1.6a5234p-10f);
  q = v_fma(q, r, v_set1(0x1.12396cp-7f));
  q = v_fma(q, r, v_set1(0x1.5558aap-5f));
  q = v_fma(q, r, v_set1(0x1.555492p-3f));
  q = v_fma(q, r, v_set1(0x1.fffffcp-2f));
  return v_fma(q, v_mul(r, r), r);
}

V_UNARY(v_exp) {
  x = v_min(v_set1(89.0f), v_max(v_set1(-104.5f), x));
  const vf32 t = v_fma(x, v_set1(0x1.715476p+0f), v_set1(V_ROUND));
  return v_scale(v_add(v_exp_rest(x, v_sub(t, v_set1(V_ROUND))), v_set1(1.0f)), t);
}

/* x (1 + z p(z)) / (1 + z q(z)) with z = x^2, all coefficients above zero, so that nothing cancels; 1 from 9.02 on. */
V_UNARY(v_tanh) {
  const vf32 one = v_set1(1.0f), a = v_min(v_set1(9.02f), v_max(v_set1(-9.02f), x));
  const vf32 z = v_mul(a, a);
  vf32 p = v_set1(0x1.cb9d9cp-27f);
  p = v_fma(p, z, v_set1(0x1.5a2a1ap-16f));
  p = v_fma(p, z, v_set1(0x1.ca6916p-9f));
  p = v_fma(p, z, v_set1(0x1.1213b8p-3f));
  vf32 q = v_set1(0x1.a21c6ep-21f);
  q = v_fma(q, z, v_set1(0x1.58ceb8p-12f));
  q = v_fma(q, z, v_set1(0x1.a8164ep-6f));
  q = v_fma(q, z, v_set1(0x1.de5f2ap-2f));
  const vf32 y = v_div(v_fma(v_mul(p, z), a, a), v_fma(q, z, one));
  return v_min(one, v_max(v_set1(-1.0f), y));
}

/* e / (1 + e) or 1 / (1 + e) with e = e^-|x| <= 1: nothing overflows, tiny results keep their digits. */
V_UNARY(v_sigmoid) {
  const vf32 one = v_set1(1.0f);
  const vf32 e = v_exp(vi_float(vi_or(vi_bits(x), vi_set1(0x80000000u))));
  return v_div(v_less(x, v_zero(), e, one), v_add(one, e));
}

/* e^-x needs no denormals here: added to 1, they are lost. The sum n + 127 in the low bits of t is the exponent of 2^n;
 * n = 128 gives inf, and the result -0. */
V_UNARY(v_swish) {
  const vf32 one = v_set1(1.0f), shift = v_set1(V_ROUND + 127.0f);
  const vf32 m = v_min(v_set1(89.0f), v_max(v_set1(-87.0f), v_sub(v_zero(), x)));
  const vf32 t = v_fma(m, v_set1(0x1.715476p+0f), shift);
  const vf32 p = v_exp_rest(m, v_sub(t, shift));
  return v_div(x, v_fma(v_add(p, one), vi_float(vi_shl23(vi_bits(t))), one));
}

/* a * b - p exactly, for p = v_mul(a, b); not fused, Dekker's product of halves, |a| and |b| below 2^115. */
V_FN vf32 v_mul_error(vf32 a, vf32 b, vf32 p) {
#if V_FUSED
  return v_fma(a, b, v_sub(v_zero(), p));
#else
  const vf32 split = v_set1(4097.0f), ta = v_mul(split, a), tb = v_mul(split, b);
  const vf32 ah = v_sub(ta, v_sub(ta, a)), al = v_sub(a, ah);
  const vf32 bh = v_sub(tb, v_sub(tb, b)), bl = v_sub(b, bh);
  const vf32 rest = v_add(v_add(v_sub(v_mul(ah, bh), p), v_mul(ah, bl)), v_mul(al, bh));
  return v_add(rest, v_mul(al, bl));
#endif
}

/* log2(a) as a sum of two floats, returned + *low, to about 30 bits; a > 0. With a = m 2^e and m in
 * [sqrt(1/2), sqrt(2)), s = (m - 1) / (m + 1): log2(m) = s (2 / ln 2 + s^2 q(s^2)). The leading products keep
 * their rounding errors. */
V_FN vf32 v_log2_pair(vf32 a, vf32 *low) {
  const vf32 one = v_set1(1.0f), least = v_set1(0x1p-126f);
  const vf32 shift = v_less(a, least, v_set1(24.0f), v_zero()); /* denormals: of a 2^24 */
  const vi32 bits = vi_bits(v_less(a, least, v_mul(a, v_set1(0x1p24f)), a));
  const vi32 e = vi_shr23(vi_add(bits, vi_set1(0x3f800000u - 0x3f3504f3u))); /* + 127 */
  const vf32 m = vi_float(vi_sub(bits, vi_shl23(vi_sub(e, vi_set1(127u)))));
  const vf32 n = v_sub(v_sub(vi_float(vi_add(e, vi_set1(0x4b000000u))), v_set1(8388735.0f)), shift);
  const vf32 f = v_sub(m, one), g = v_add(m, one), g_low = v_sub(m, v_sub(g, one));
  const vf32 inverse = v_div(one, g), s = v_mul(f, inverse), sg = v_mul(s, g);
  const vf32 rest = v_sub(v_sub(v_sub(f, sg), v_mul_error(s, g, sg)), v_mul(s, g_low));
  const vf32 z = v_mul(s, s);
  const vf32 s_low = v_mul(v_mul(rest, inverse), v_add(one, z)); /* d log2 / d s = c (1 + z + ...) */
  vf32 q = v_set1(0x1.58906cp-2f);
  q = v_fma(q, z, v_set1(0x1.a5d046p-2f));
  q = v_fma(q, z, v_set1(0x1.2776e0p-1f));
  q = v_fma(q, z, v_set1(0x1.ec709ep-1f));
  const vf32 c = v_set1(0x1.715476p+1f), c_low = v_set1(0x1.4ae0cp-25f), lead = v_mul(c, s);
  const vf32 small = v_fma(v_mul(q, z), s, v_fma(c, s_low, v_fma(c_low, s, v_mul_error(c, s, lead))));
  const vf32 sum = v_add(n, lead), lost = v_sub(lead, v_sub(sum, n));
  const vf32 tail = v_add(lost, small), high = v_add(sum, tail);
  *low = v_sub(tail, v_sub(high, sum));
  return high;
}

/* The logarithm where the pair does not hold: `zero` at zeros, `infinite` at inf, NaN below zero and at NaN. */
V_FN vf32 v_log2_ends(vf32 a, vf32 log, vf32 zero, vf32 infinite) {
  const vf32 nan = vi_float(vi_set1(0x7fc00000u));
  log = v_less(v_set1(0x1.fffffep+127f), a, infinite, log);
  log = v_less(v_zero(), a, log, zero);
  log = v_less(a, v_zero(), nan, log);
  return v_less(v_set1(-1.0f), a, log, nan);
}

V_UNARY(v_log2) {
  vf32 low;
  const vf32 high = v_log2_pair(x, &low);
  return v_log2_ends(x, high, vi_float(vi_set1(0xff800000u)), vi_float(vi_set1(0x7f800000u)));
}

/* 2^(b log2 a). The ends get +-2^100 for the logarithm, so that 0^0 and inf^0 are 1. */
V_BIG vf32 v_pow(vf32 a, vf32 b) {
  vf32 low;
  const vf32 log = v_log2_ends(a, v_log2_pair(a, &low), v_set1(-0x1p100f), v_set1(0x1p100f));
  const vf32 y = v_mul(b, log), rest = v_add(v_mul_error(b, log, y), v_mul(b, low));
  const vf32 y_low = v_less(v_abs(y), v_set1(1000.0f), rest, v_zero());
  const vf32 x = v_min(v_set1(129.0f), v_max(v_set1(-152.0f), y));
  const vf32 t = v_add(x, v_set1(V_ROUND));
  return v_exp2_split(t, v_add(v_sub(x, v_sub(t, v_set1(V_ROUND))), y_low));
}
