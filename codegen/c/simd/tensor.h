/* More words, for operations on tensors that no layer has; pasted where a kernel uses one of them.
 *
 *   v_load_at(p, at, n)           p[at[0]] p[at[1]] .. in the first n lanes, 0 in the others
 *   v_min_nan(a, b)               the smaller; NaN where either is NaN
 *   v_same(a, b, x, y)            x where a == b, else y (also where a or b is NaN)
 *   v_round v_floor v_ceil v_trunc    whole numbers: the nearest (an even one at a half), below, above, towards 0
 *   v_sign(a)                     -1, 0, 1; NaN stays
 *
 * and a function with its largest distance from the exact value in ULP:
 *
 *                  fused  not fused
 *   v_erf(x)        7.5      7.5     NaN stays; 1 at inf, never above; 3.5 within -1 .. 1
 */

V_FN vf32 v_load_at(const float *p, const int32_t *at, int n) {
  float f[V_LANES];
  for (int i = 0; i < V_LANES; ++i) f[i] = i < n ? p[at[i]] : 0.0f;
  return v_load(f);
}
V_FN vf32 v_min_nan(vf32 a, vf32 b) {
  const vf32 minus = v_set1(-1.0f);
  return v_mul(minus, v_max_nan(v_mul(minus, a), v_mul(minus, b)));
}
/* y for NaN: only a number is below 1 or above 0. */
V_FN vf32 v_number(vf32 a, vf32 x, vf32 y) { return v_less(a, v_set1(1.0f), x, v_less(v_zero(), a, x, y)); }
V_FN vf32 v_same(vf32 a, vf32 b, vf32 x, vf32 y) {
  const vf32 apart = v_less(a, b, y, v_less(b, a, y, x));
  return v_number(a, v_number(b, apart, y), y);
}

/* The sign of x on a magnitude. */
V_FN vf32 v_signed(vf32 a, vf32 x) {
  return vi_float(vi_or(vi_bits(a), vi_and(vi_bits(x), vi_set1(0x80000000u))));
}
/* From 2^23 on every float is whole; below, adding it rounds. */
V_FN vf32 v_round_magnitude(vf32 a) {
  const vf32 least = v_set1(0x1p23f);
  return v_less(a, least, v_sub(v_add(a, least), least), a);
}
V_FN vf32 v_round(vf32 x) { return v_signed(v_round_magnitude(v_abs(x)), x); }
V_FN vf32 v_trunc(vf32 x) {
  const vf32 a = v_abs(x), near = v_round_magnitude(a);
  return v_signed(v_sub(near, v_less(a, near, v_set1(1.0f), v_zero())), x);
}
V_FN vf32 v_floor(vf32 x) {
  const vf32 near = v_round(x);
  return v_sub(near, v_less(x, near, v_set1(1.0f), v_zero()));
}
V_FN vf32 v_ceil(vf32 x) {
  const vf32 near = v_round(x);
  return v_signed(v_abs(v_sub(near, v_less(near, x, v_set1(-1.0f), v_zero()))), x);
}
V_FN vf32 v_sign(vf32 x) {
  return v_less(v_zero(), x, v_set1(1.0f), v_less(x, v_zero(), v_set1(-1.0f), x));
}

/* 2 / sqrt(pi) x (1 + z p(z)) / (1 + z q(z)) with z = x^2, all coefficients above zero; 1 from 3.92 on. */
V_UNARY(v_erf) {
  const vf32 one = v_set1(1.0f), a = v_min(v_set1(3.92f), v_max(v_set1(-3.92f), x));
  const vf32 z = v_mul(a, a);
  vf32 p = v_set1(0x1.e8a7d6p-20f);
  p = v_fma(p, z, v_set1(0x1.083dfap-12f));
  p = v_fma(p, z, v_set1(0x1.b2c24p-9f));
  p = v_fma(p, z, v_set1(0x1.7e72b4p-5f));
  p = v_fma(p, z, v_set1(0x1.589f8ap-3f));
  vf32 q = v_set1(0x1.3fa612p-15f);
  q = v_fma(q, z, v_set1(0x1.2f495ep-10f));
  q = v_fma(q, z, v_set1(0x1.e905fep-7f));
  q = v_fma(q, z, v_set1(0x1.d27e58p-4f));
  q = v_fma(q, z, v_set1(0x1.00d28p-1f));
  const vf32 y = v_div(v_fma(v_mul(p, z), a, a), v_fma(q, z, one));
  return v_min(one, v_max(v_set1(-1.0f), v_mul(v_set1(0x1.20dd76p+0f), y)));
}
