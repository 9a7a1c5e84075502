/* What gcc and clang call in any code, even in freestanding code: to copy and to clear structs and arrays. The program needs
 * no library for it. All are static: they neither replace nor meet those of a library that is there. */
#if defined(__GNUC__)
#define MEM_FN static __attribute__((used, unused))
#define MEM_STEP(p) __asm__("" : "+r"(p)) /* else the compiler sees a memcpy here, and calls itself */

MEM_FN void *memcpy(void *restrict to, const void *restrict from, size_t n) {
  unsigned char *p = (unsigned char *)to;
  const unsigned char *q = (const unsigned char *)from;
  for (; n > 0; --n) { *p++ = *q++; MEM_STEP(p); }
  return to;
}

MEM_FN void *memmove(void *to, const void *from, size_t n) {
  unsigned char *p = (unsigned char *)to;
  const unsigned char *q = (const unsigned char *)from;
  if ((uintptr_t)p <= (uintptr_t)q) {
    for (; n > 0; --n) { *p++ = *q++; MEM_STEP(p); }
    return to;
  }
  for (p += n, q += n; n > 0; --n) { *--p = *--q; MEM_STEP(p); }
  return to;
}

MEM_FN void *memset(void *to, int value, size_t n) {
  unsigned char *p = (unsigned char *)to;
  for (; n > 0; --n) { *p++ = (unsigned char)value; MEM_STEP(p); }
  return to;
}

MEM_FN int memcmp(const void *a, const void *b, size_t n) {
  const unsigned char *p = (const unsigned char *)a, *q = (const unsigned char *)b;
  for (; n > 0; --n, ++p, ++q) { if (*p != *q) return *p < *q ? -1 : 1; MEM_STEP(p); }
  return 0;
}
#if defined(__arm__) && defined(__clang__) /* clang calls them by the names of Arm's run-time ABI */
MEM_FN void __aeabi_memcpy(void *to, const void *from, size_t n) { memcpy(to, from, n); }
MEM_FN void __aeabi_memcpy4(void *to, const void *from, size_t n) { memcpy(to, from, n); }
MEM_FN void __aeabi_memcpy8(void *to, const void *from, size_t n) { memcpy(to, from, n); }
MEM_FN void __aeabi_memmove(void *to, const void *from, size_t n) { memmove(to, from, n); }
MEM_FN void __aeabi_memmove4(void *to, const void *from, size_t n) { memmove(to, from, n); }
MEM_FN void __aeabi_memmove8(void *to, const void *from, size_t n) { memmove(to, from, n); }
MEM_FN void __aeabi_memset(void *to, size_t n, int value) { memset(to, value, n); }
MEM_FN void __aeabi_memset4(void *to, size_t n, int value) { memset(to, value, n); }
MEM_FN void __aeabi_memset8(void *to, size_t n, int value) { memset(to, value, n); }
MEM_FN void __aeabi_memclr(void *to, size_t n) { memset(to, 0, n); }
MEM_FN void __aeabi_memclr4(void *to, size_t n) { memset(to, 0, n); }
MEM_FN void __aeabi_memclr8(void *to, size_t n) { memset(to, 0, n); }
#endif
#endif
