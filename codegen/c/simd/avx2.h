/* AVX2 with FMA: 8 floats in each of 16 registers. */
#if !defined(__AVX2__) || !defined(__FMA__)
#error "this code is for x86 with AVX2 and FMA: compile with -march=x86-64-v3, or with -mavx2 -mfma"
#endif
#include <immintrin.h>

#define V_LANES 8
#define V_X 4
#define V_FUSED 1
#define V_PIN(v) __asm__("" : "+x"(v))

typedef __m256 vf32;
typedef __m256i vi32;
typedef const float *vx;

V_FN vf32 v_zero(void) { return _mm256_setzero_ps(); }
V_FN vf32 v_set1(float s) { return _mm256_set1_ps(s); }
V_FN vf32 v_load(const float *p) { return _mm256_loadu_ps(p); }
V_FN void v_store(float *p, vf32 a) { _mm256_storeu_ps(p, a); }
V_FN vi32 v_first_n(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
V_FN vf32 v_load_n(const float *p, int n) { return _mm256_maskload_ps(p, v_first_n(n)); }
V_FN void v_store_n(float *p, vf32 a, int n) { _mm256_maskstore_ps(p, v_first_n(n), a); }

V_FN vf32 v_add(vf32 a, vf32 b) { return _mm256_add_ps(a, b); }
V_FN vf32 v_sub(vf32 a, vf32 b) { return _mm256_sub_ps(a, b); }
V_FN vf32 v_mul(vf32 a, vf32 b) { return _mm256_mul_ps(a, b); }
V_FN vf32 v_div(vf32 a, vf32 b) { return _mm256_div_ps(a, b); }
V_FN vf32 v_fma(vf32 a, vf32 b, vf32 c) { return _mm256_fmadd_ps(a, b, c); }
V_FN vf32 v_sqrt(vf32 a) { return _mm256_sqrt_ps(a); }
V_FN vf32 v_min(vf32 c, vf32 x) { return _mm256_min_ps(c, x); } /* the second operand where either is NaN */
V_FN vf32 v_max(vf32 c, vf32 x) { return _mm256_max_ps(c, x); }
V_FN vf32 v_max_nan(vf32 a, vf32 b) {
  return _mm256_blendv_ps(_mm256_max_ps(a, b), a, _mm256_cmp_ps(a, a, _CMP_UNORD_Q));
}
V_FN vf32 v_less(vf32 a, vf32 b, vf32 x, vf32 y) {
  return _mm256_blendv_ps(y, x, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}

V_FN vi32 vi_bits(vf32 a) { return _mm256_castps_si256(a); }
V_FN vf32 vi_float(vi32 a) { return _mm256_castsi256_ps(a); }
V_FN vi32 vi_set1(uint32_t s) { return _mm256_set1_epi32((int)s); }
V_FN vi32 vi_add(vi32 a, vi32 b) { return _mm256_add_epi32(a, b); }
V_FN vi32 vi_sub(vi32 a, vi32 b) { return _mm256_sub_epi32(a, b); }
V_FN vi32 vi_and(vi32 a, vi32 b) { return _mm256_and_si256(a, b); }
V_FN vi32 vi_or(vi32 a, vi32 b) { return _mm256_or_si256(a, b); }
V_FN vi32 vi_shl23(vi32 a) { return _mm256_slli_epi32(a, 23); }
V_FN vi32 vi_shr23(vi32 a) { return _mm256_srli_epi32(a, 23); }
V_FN vi32 vi_shr1(vi32 a) { return _mm256_srli_epi32(a, 1); }
V_FN vf32 v_abs(vf32 a) { return vi_float(vi_and(vi_bits(a), vi_set1(0x7fffffffu))); }

V_FN vf32 v_pick(vf32 a, const int32_t *from) { /* lane i of the result is lane from[i] */
  return _mm256_permutevar8x32_ps(a, _mm256_loadu_si256((const void *)from));
}
V_FN vf32 v_even(vf32 a, vf32 b) {
  return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(_mm256_shuffle_ps(a, b, 0x88)), 0xd8));
}
V_FN vf32 v_odd(vf32 a, vf32 b) {
  return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(_mm256_shuffle_ps(a, b, 0xdd)), 0xd8));
}
V_FN vf32 v_halves(vf32 a, vf32 b) { return _mm256_blend_ps(a, b, 0xf0); }
V_FN vf32 v_load_halves(const float *p, const float *q) {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps(q), 1);
}
V_FN void v_store_halves(float *p, float *q, vf32 a) {
  _mm_storeu_ps(p, _mm256_castps256_ps128(a));
  _mm_storeu_ps(q, _mm256_extractf128_ps(a, 1));
}
V_FN float v_sum(vf32 a) {
  const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
  const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
  return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
V_FN float v_max_all(vf32 a) {
  a = v_max_nan(a, _mm256_permute2f128_ps(a, a, 1));
  a = v_max_nan(a, _mm256_permute_ps(a, 0x4e));
  a = v_max_nan(a, _mm256_permute_ps(a, 0xb1));
  return _mm256_cvtss_f32(a);
}

V_FN vx x_load(const float *p) { return p; }
V_FN vx x_load_n(const float *p, int n) { (void)n; return p; }
V_FN vf32 v_fma_1(vf32 acc, vf32 w, const float *p) { return _mm256_fmadd_ps(w, _mm256_broadcast_ss(p), acc); }
#define v_fma_x(acc, w, x, j) v_fma_1(acc, w, (x) + (j))
