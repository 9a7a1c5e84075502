/* The vector vocabulary of compactir. This text is part of generated code and belongs to whoever generated it.
 *
 * Kernels are written in these words only; one header per instruction set gives each word its instructions.
 * vf32 is a vector of V_LANES floats, vi32 of as many 32-bit words. Pointers need the alignment of a float only.
 *
 *   v_zero() v_set1(s)            all lanes 0, all lanes s
 *   v_load(p) v_store(p, a)       V_LANES floats at p
 *   v_load_n(p, n)                the first n floats at p, 0 in the other lanes; memory after them is not read
 *   v_store_n(p, a, n)            the first n lanes to p; memory after them is not written (n < 0 counts as 0)
 *   v_load_halves(p, q)           V_LANES/2 floats at p in the low half, V_LANES/2 at q in the high half
 *   v_store_halves(p, q, a)       the low half to p, the high half to q
 *   v_load_each(p, s, m, n, a)    p[0] p[s] p[2 s] .. in lanes m .. n-1, a in the others; no other memory is read
 *   v_even(a, b) v_odd(a, b)      lanes 0, 2, 4 .. of a, then those of b; lanes 1, 3, 5 ..
 *   v_halves(a, b)                the low half of a, the high half of b
 *   v_add v_sub v_mul v_div       as IEEE 754 rounds them
 *   v_fma(a, b, c)                a * b + c, rounded once where V_FUSED is 1, after each operation where it is 0
 *   v_sqrt(a) v_abs(a)            correctly rounded root (NaN below zero), magnitude
 *   v_min(c, x) v_max(c, x)       the smaller, larger; a NaN in x stays, c must not be NaN: relu = v_max(zero, x)
 *   v_max_nan(a, b)               the larger; NaN where either is NaN; which of -0 and +0 is larger is open
 *   v_less(a, b, x, y)            x where a < b, else y (also where a or b is NaN)
 *   v_sum(a)                      the lanes' sum: lane i + lane i + half, halves again, down to one
 *   v_max_all(a)                  the largest lane; NaN where any is NaN
 *   vx, x_load(p) x_load_n(p, n)  V_X consecutive scalars at p, ready to multiply vectors; only the first n
 *   v_fma_x(acc, w, x, j)         v_fma(w, all lanes x[j], acc), j a literal in 0 .. V_X - 1
 *   v_fma_1(acc, w, p)            v_fma(w, all lanes *p, acc)
 *   v_exp v_exp2 v_log2 v_tanh v_sigmoid v_swish v_pow    elementary functions, see below
 *   V_PIN(v)                      keeps v in a register (the compiler may load it again for every use otherwise)
 *   V_BARRIER()                   the compiler must not carry loaded values across
 *   V_PREFETCH(p)                 the cache line at p will be read soon; p may be anything
 *
 * vi_* are bit operations for the elementary functions. */
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define V_FN static inline __attribute__((unused, always_inline))
#define V_BIG static __attribute__((unused))
#define V_KERNEL static __attribute__((noinline)) /* inlined into a step, gcc may spill its sums */
#define V_BARRIER() __asm__ volatile("" ::: "memory")
#define V_PREFETCH(p) __builtin_prefetch(p)
#else
#define V_FN static inline
#define V_BIG static
#define V_KERNEL static
#define V_BARRIER() ((void)0)
#define V_PREFETCH(p) ((void)(p))
#endif
