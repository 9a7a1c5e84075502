/* AVX-512 (F, BW, CD, DQ, VL): 16 floats in each of 32 registers. */
#if !defined(__AVX512F__) || !defined(__AVX512DQ__) || !defined(__AVX512VL__)
#error "this code is for x86 with AVX-512: compile with -march=x86-64-v4, or with -mavx512f -mavx512dq -mavx512vl"
#endif
#include <immintrin.h>

#define V_LANES 16
#define V_X 4
#define V_FUSED 1
#define V_PIN(v) __asm__("" : "+v"(v))

typedef __m512 vf32;
typedef __m512i vi32;
typedef const float *vx;

V_FN vf32 v_zero(void) { return _mm512_setzero_ps(); }
V_FN vf32 v_set1(float s) { return _mm512_set1_ps(s); }
V_FN vf32 v_load(const float *p) { return _mm512_loadu_ps(p); }
V_FN void v_store(float *p, vf32 a) { _mm512_storeu_ps(p, a); }
V_FN __mmask16 v_first_n(int n) { return (__mmask16)(n >= 16 ? 0xffff : n <= 0 ? 0 : (1 << n) - 1); }
V_FN vf32 v_load_n(const float *p, int n) { return _mm512_maskz_loadu_ps(v_first_n(n), p); }
V_FN void v_store_n(float *p, vf32 a, int n) { _mm512_mask_storeu_ps(p, v_first_n(n), a); }

V_FN vf32 v_add(vf32 a, vf32 b) { return _mm512_add_ps(a, b); }
V_FN vf32 v_sub(vf32 a, vf32 b) { return _mm512_sub_ps(a, b); }
V_FN vf32 v_mul(vf32 a, vf32 b) { return _mm512_mul_ps(a, b); }
V_FN vf32 v_div(vf32 a, vf32 b) { return _mm512_div_ps(a, b); }
V_FN vf32 v_fma(vf32 a, vf32 b, vf32 c) { return _mm512_fmadd_ps(a, b, c); }
V_FN vf32 v_sqrt(vf32 a) { return _mm512_sqrt_ps(a); }
V_FN vf32 v_min(vf32 c, vf32 x) { return _mm512_min_ps(c, x); } /* the second operand where either is NaN */
V_FN vf32 v_max(vf32 c, vf32 x) { return _mm512_max_ps(c, x); }
V_FN vf32 v_max_nan(vf32 a, vf32 b) {
  return _mm512_mask_mov_ps(_mm512_max_ps(a, b), _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), a);
}
V_FN vf32 v_less(vf32 a, vf32 b, vf32 x, vf32 y) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}

V_FN vi32 vi_bits(vf32 a) { return _mm512_castps_si512(a); }
V_FN vf32 vi_float(vi32 a) { return _mm512_castsi512_ps(a); }
V_FN vi32 vi_set1(uint32_t s) { return _mm512_set1_epi32((int)s); }
V_FN vi32 vi_add(vi32 a, vi32 b) { return _mm512_add_epi32(a, b); }
V_FN vi32 vi_sub(vi32 a, vi32 b) { return _mm512_sub_epi32(a, b); }
V_FN vi32 vi_and(vi32 a, vi32 b) { return _mm512_and_si512(a, b); }
V_FN vi32 vi_or(vi32 a, vi32 b) { return _mm512_or_si512(a, b); }
V_FN vi32 vi_shl23(vi32 a) { return _mm512_slli_epi32(a, 23); }
V_FN vi32 vi_shr23(vi32 a) { return _mm512_srli_epi32(a, 23); }
V_FN vi32 vi_shr1(vi32 a) { return _mm512_srli_epi32(a, 1); }
V_FN vf32 v_abs(vf32 a) { return vi_float(vi_and(vi_bits(a), vi_set1(0x7fffffffu))); }

V_FN vf32 v_pick(vf32 a, const int32_t *from) { /* lane i of the result is lane from[i] */
  return _mm512_permutexvar_ps(_mm512_loadu_si512((const void *)from), a);
}
V_FN vf32 v_even(vf32 a, vf32 b) {
  const vi32 lanes = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  return _mm512_permutex2var_ps(a, lanes, b);
}
V_FN vf32 v_odd(vf32 a, vf32 b) {
  const vi32 lanes = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
  return _mm512_permutex2var_ps(a, lanes, b);
}
V_FN vf32 v_halves(vf32 a, vf32 b) { return _mm512_mask_blend_ps((__mmask16)0xff00, a, b); }
V_FN vf32 v_load_halves(const float *p, const float *q) {
  return _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(p)), _mm256_loadu_ps(q), 1);
}
V_FN void v_store_halves(float *p, float *q, vf32 a) {
  _mm256_storeu_ps(p, _mm512_castps512_ps256(a));
  _mm256_storeu_ps(q, _mm512_extractf32x8_ps(a, 1));
}
V_FN float v_sum(vf32 a) {
  const __m256 b = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
  const __m128 c = _mm_add_ps(_mm256_castps256_ps128(b), _mm256_extractf128_ps(b, 1));
  const __m128 d = _mm_add_ps(c, _mm_movehl_ps(c, c));
  return _mm_cvtss_f32(_mm_add_ss(d, _mm_movehdup_ps(d)));
}
V_FN float v_max_all(vf32 a) {
  a = v_max_nan(a, _mm512_shuffle_f32x4(a, a, 0x4e));
  a = v_max_nan(a, _mm512_shuffle_f32x4(a, a, 0xb1));
  a = v_max_nan(a, _mm512_permute_ps(a, 0x4e));
  a = v_max_nan(a, _mm512_permute_ps(a, 0xb1));
  return _mm512_cvtss_f32(a);
}

V_FN vx x_load(const float *p) { return p; }
V_FN vx x_load_n(const float *p, int n) { (void)n; return p; }
V_FN vf32 v_fma_1(vf32 acc, vf32 w, const float *p) { return _mm512_fmadd_ps(w, _mm512_set1_ps(*p), acc); }
#define v_fma_x(acc, w, x, j) v_fma_1(acc, w, (x) + (j))
