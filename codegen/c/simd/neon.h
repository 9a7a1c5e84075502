/* NEON: 4 floats in each of 32 registers (AArch64), or of 16 (ARMv7-A).
 *
 * ARMv7's NEON treats denormals as zero; its divisions and roots go lane by lane through VFP, which does not. */
#if !defined(__ARM_NEON)
#error "this code is for Arm with NEON: compile with -march=armv8-a, or with -march=armv7-a -mfpu=neon-vfpv4"
#endif
#include <arm_neon.h>

#define V_LANES 4
#define V_X 4
#if defined(__aarch64__) || defined(__ARM_FEATURE_FMA)
#define V_FUSED 1
#else
#define V_FUSED 0 /* Cortex-A8, A9: compiled with -mfpu=neon */
#endif
#define V_PIN(v) __asm__("" : "+w"(v))

typedef float32x4_t vf32;
typedef uint32x4_t vi32;
typedef float32x4_t vx;

V_FN vf32 v_zero(void) { return vdupq_n_f32(0.0f); }
V_FN vf32 v_set1(float s) { return vdupq_n_f32(s); }
V_FN vf32 v_load(const float *p) { return vld1q_f32(p); }
V_FN void v_store(float *p, vf32 a) { vst1q_f32(p, a); }
V_FN vf32 v_load_n(const float *p, int n) {
  vf32 r = vdupq_n_f32(0.0f);
  if (n >= 4) return vld1q_f32(p);
  if (n > 0) r = vld1q_lane_f32(p, r, 0);
  if (n > 1) r = vld1q_lane_f32(p + 1, r, 1);
  if (n > 2) r = vld1q_lane_f32(p + 2, r, 2);
  return r;
}
V_FN void v_store_n(float *p, vf32 a, int n) {
  if (n >= 4) { vst1q_f32(p, a); return; }
  if (n > 0) vst1q_lane_f32(p, a, 0);
  if (n > 1) vst1q_lane_f32(p + 1, a, 1);
  if (n > 2) vst1q_lane_f32(p + 2, a, 2);
}

V_FN vf32 v_add(vf32 a, vf32 b) { return vaddq_f32(a, b); }
V_FN vf32 v_sub(vf32 a, vf32 b) { return vsubq_f32(a, b); }
V_FN vf32 v_mul(vf32 a, vf32 b) { return vmulq_f32(a, b); }
V_FN vf32 v_min(vf32 c, vf32 x) { return vminq_f32(c, x); }
V_FN vf32 v_max(vf32 c, vf32 x) { return vmaxq_f32(c, x); }
V_FN vf32 v_max_nan(vf32 a, vf32 b) { return vmaxq_f32(a, b); }
V_FN vf32 v_less(vf32 a, vf32 b, vf32 x, vf32 y) { return vbslq_f32(vcltq_f32(a, b), x, y); }
V_FN vf32 v_abs(vf32 a) { return vabsq_f32(a); }

V_FN vi32 vi_bits(vf32 a) { return vreinterpretq_u32_f32(a); }
V_FN vf32 vi_float(vi32 a) { return vreinterpretq_f32_u32(a); }
V_FN vi32 vi_set1(uint32_t s) { return vdupq_n_u32(s); }
V_FN vi32 vi_add(vi32 a, vi32 b) { return vaddq_u32(a, b); }
V_FN vi32 vi_sub(vi32 a, vi32 b) { return vsubq_u32(a, b); }
V_FN vi32 vi_and(vi32 a, vi32 b) { return vandq_u32(a, b); }
V_FN vi32 vi_or(vi32 a, vi32 b) { return vorrq_u32(a, b); }
V_FN vi32 vi_shl23(vi32 a) { return vshlq_n_u32(a, 23); }
V_FN vi32 vi_shr23(vi32 a) { return vshrq_n_u32(a, 23); }
V_FN vi32 vi_shr1(vi32 a) { return vshrq_n_u32(a, 1); }

V_FN vf32 v_pick(vf32 a, const int32_t *from) { /* lane i of the result is lane from[i] */
  float n[4], r[4];
  vst1q_f32(n, a);
  for (int i = 0; i < 4; ++i) r[i] = n[from[i]];
  return vld1q_f32(r);
}
V_FN vf32 v_even(vf32 a, vf32 b) { return vuzpq_f32(a, b).val[0]; }
V_FN vf32 v_odd(vf32 a, vf32 b) { return vuzpq_f32(a, b).val[1]; }
V_FN vf32 v_halves(vf32 a, vf32 b) { return vcombine_f32(vget_low_f32(a), vget_high_f32(b)); }
V_FN vf32 v_load_halves(const float *p, const float *q) { return vcombine_f32(vld1_f32(p), vld1_f32(q)); }
V_FN void v_store_halves(float *p, float *q, vf32 a) {
  vst1_f32(p, vget_low_f32(a));
  vst1_f32(q, vget_high_f32(a));
}
V_FN float v_sum(vf32 a) {
  const float32x2_t b = vadd_f32(vget_low_f32(a), vget_high_f32(a));
  return vget_lane_f32(vpadd_f32(b, b), 0);
}
V_FN float v_max_all(vf32 a) {
  const float32x2_t b = vmax_f32(vget_low_f32(a), vget_high_f32(a));
  return vget_lane_f32(vpmax_f32(b, b), 0);
}
V_FN vx x_load(const float *p) { return vld1q_f32(p); }
V_FN vx x_load_n(const float *p, int n) { return v_load_n(p, n); }

#if defined(__aarch64__)
V_FN vf32 v_div(vf32 a, vf32 b) { return vdivq_f32(a, b); }
V_FN vf32 v_sqrt(vf32 a) { return vsqrtq_f32(a); }
V_FN vf32 v_fma(vf32 a, vf32 b, vf32 c) { return vfmaq_f32(c, a, b); }
#if defined(__clang__) || !defined(__GNUC__)
#define v_fma_x(acc, w, x, j) vfmaq_laneq_f32(acc, w, x, j)
#else /* gcc 12 copies sums to and fro between intrinsics: every tenth instruction of an inner loop */
#define v_fma_x(acc, w, x, j) __extension__({ \
    vf32 sum_ = acc; \
    __asm__("fmla %0.4s, %1.4s, %2.s[%3]" : "+w"(sum_) : "w"(w), "w"(x), "i"(j)); \
    sum_; \
  })
#endif
#else
V_FN vf32 v_div(vf32 a, vf32 b) {
  float n[4], d[4];
  vst1q_f32(n, a);
  vst1q_f32(d, b);
  for (int i = 0; i < 4; ++i) n[i] /= d[i];
  return vld1q_f32(n);
}
V_FN vf32 v_sqrt(vf32 a) {
  float n[4];
  vst1q_f32(n, a);
  for (int i = 0; i < 4; ++i) __asm__("vsqrt.f32 %0, %1" : "=t"(n[i]) : "t"(n[i]));
  return vld1q_f32(n);
}
#if V_FUSED
V_FN vf32 v_fma(vf32 a, vf32 b, vf32 c) { return vfmaq_f32(c, a, b); }
#define v_fma_x(acc, w, x, j) vfmaq_f32(acc, w, vdupq_n_f32(vgetq_lane_f32(x, j))) /* VFMA has no form by lane */
#else
V_FN vf32 v_fma(vf32 a, vf32 b, vf32 c) { return vmlaq_f32(c, a, b); }
#define v_fma_x(acc, w, x, j) vmlaq_lane_f32(acc, w, (j) < 2 ? vget_low_f32(x) : vget_high_f32(x), (j) & 1)
#endif
#endif
#if defined(__aarch64__) && defined(__GNUC__)
/* Statements that stay in the order in which they are written, between two V_BARRIERs. V_LOW loads half a vector at
 * p[i], V_HIGH and V_JOIN the other half by way of an integer register, V_MOVE replaces the low half from there, and
 * empties the other; V_WHOLE loads a vector, V_PAIR two that follow each other, V_ALONG one, then p += s bytes. V_MULTIPLY: acc += w * x[j]. V_STEP:
 * p += s bytes; V_ENTRY: o = *q; V_AT: p = base + o floats. V_FETCH and V_FETCH_FAR say that p[i] will be read soon.
 * V_HIDE: the compiler does not know what i is. */
#define V_LOW(v, p, i) __asm__ volatile("ldr %d0, [%1, %2]" : "=w"(v) : "r"(p), "i"((i) * 4))
#define V_HIGH(h, p, i) __asm__ volatile("ldr %0, [%1, %2]" : "=r"(h) : "r"(p), "i"((i) * 4))
#define V_JOIN(v, h) __asm__ volatile("mov %0.d[1], %1" : "+w"(v) : "r"(h))
#define V_MOVE(v, h) __asm__ volatile("fmov %d0, %1" : "+w"(v) : "r"(h))
#define V_WHOLE(v, p, i) __asm__ volatile("ldr %q0, [%1, %2]" : "=w"(v) : "r"(p), "i"((i) * 4))
#define V_PAIR(v, u, p, i) __asm__ volatile("ldp %q0, %q1, [%2, %3]" : "=w"(v), "=w"(u) : "r"(p), "i"((i) * 4))
#define V_ALONG(v, p, s) __asm__ volatile("ld1 {%0.4s}, [%1], %2" : "=w"(v), "+r"(p) : "r"(s))
#define V_STEP(p, s) __asm__ volatile("add %0, %0, %1" : "+r"(p) : "rI"((int64_t)(s)))
#define V_ENTRY(o, q) __asm__ volatile("ldrsw %0, [%1]" : "=r"(o) : "r"(q))
#define V_AT(p, base, o) __asm__ volatile("add %0, %1, %2, lsl #2" : "=r"(p) : "r"(base), "r"(o))
#define V_HIDE(i) __asm__ volatile("" : "+r"(i))
#define V_FETCH(p, i) __asm__ volatile("prfm pldl1keep, [%0, %1]" : : "r"(p), "i"((i) * 4))
#define V_FETCH_FAR(p, i) __asm__ volatile("prfm pldl1keep, [%0, %1]" : : "r"(p), "r"((int64_t)(i) * 4))
#define V_MULTIPLY(acc, w, x, j) __asm__ volatile("fmla %0.4s, %1.4s, %2.s[" #j "]" : "+w"(acc) : "w"(w), "w"(x))
#endif
V_FN vf32 v_fma_1(vf32 acc, vf32 w, const float *p) { return v_fma(w, vld1q_dup_f32(p), acc); }
