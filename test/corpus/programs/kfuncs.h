/* Kernel functions that programs of the corpus call, and loops over numbers. */
#pragma once

#define KSYM __attribute__((section(".ksyms")))

struct bpf_iter_num {
	__u64 opaque;
} __attribute__((aligned(8)));

extern int bpf_iter_num_new(struct bpf_iter_num *it, int start, int end) KSYM;
extern int *bpf_iter_num_next(struct bpf_iter_num *it) KSYM;
extern void bpf_iter_num_destroy(struct bpf_iter_num *it) KSYM;

struct bpf_iter_bits {
	__u64 opaque[2];
} __attribute__((aligned(8)));

extern int bpf_iter_bits_new(struct bpf_iter_bits *it, const __u64 *words, __u32 count) KSYM;
extern int *bpf_iter_bits_next(struct bpf_iter_bits *it) KSYM;
extern void bpf_iter_bits_destroy(struct bpf_iter_bits *it) KSYM;

/* The iterator is destroyed however the loop is left. Old compilers describe only functions that are used by name. */
#define NUMBERS(it, first, last) \
	struct bpf_iter_num it __attribute__((cleanup(bpf_iter_num_destroy))); \
	(void)bpf_iter_num_destroy; \
	bpf_iter_num_new(&it, (first), (last));

#define BITS(it, words, count) \
	struct bpf_iter_bits it __attribute__((cleanup(bpf_iter_bits_destroy))); \
	(void)bpf_iter_bits_destroy; \
	__attribute__((unused)) int it##_error = bpf_iter_bits_new(&it, (words), (count));

#define EACH_BIT(i, it) for (int *i##_at; (i##_at = bpf_iter_bits_next(&it)) && ((i) = *i##_at, 1);)

#define EACH(i, it, first, last) \
	for (int *i##_at; (i##_at = bpf_iter_num_next(&it)) && ((i) = *i##_at, (i) >= (first) && (i) < (last));)

extern int bpf_dynptr_from_skb(struct __sk_buff *skb, __u64 flags, struct bpf_dynptr *ptr) KSYM;
extern int bpf_dynptr_from_xdp(struct xdp_md *xdp, __u64 flags, struct bpf_dynptr *ptr) KSYM;
extern void *bpf_dynptr_slice(const struct bpf_dynptr *ptr, __u32 offset, void *buffer, __u32 size) KSYM;
extern void *bpf_dynptr_slice_rdwr(const struct bpf_dynptr *ptr, __u32 offset, void *buffer, __u32 size) KSYM;
extern int bpf_dynptr_adjust(const struct bpf_dynptr *ptr, __u32 start, __u32 end) KSYM;
/* A bool comes in one byte, and the rest of the register is anything. */
extern int bpf_dynptr_is_null(const struct bpf_dynptr *ptr) KSYM;
extern int bpf_dynptr_is_rdonly(const struct bpf_dynptr *ptr) KSYM;
extern __u32 bpf_dynptr_size(const struct bpf_dynptr *ptr) KSYM;
extern int bpf_dynptr_clone(const struct bpf_dynptr *ptr, struct bpf_dynptr *clone) KSYM;
extern int bpf_dynptr_copy(struct bpf_dynptr *to, __u32 at, struct bpf_dynptr *from, __u32 start, __u32 size) KSYM;
extern int bpf_dynptr_memset(struct bpf_dynptr *ptr, __u32 offset, __u32 size, __u8 value) KSYM;

extern int bpf_strcmp(const char *a, const char *b) KSYM;
extern int bpf_strcasecmp(const char *a, const char *b) KSYM;
extern int bpf_strchr(const char *text, char c) KSYM;
extern int bpf_strchrnul(const char *text, char c) KSYM;
extern int bpf_strnchr(const char *text, __u64 count, char c) KSYM;
extern int bpf_strrchr(const char *text, int c) KSYM;
extern int bpf_strlen(const char *text) KSYM;
extern int bpf_strnlen(const char *text, __u64 count) KSYM;
extern int bpf_strspn(const char *text, const char *accept) KSYM;
extern int bpf_strcspn(const char *text, const char *reject) KSYM;
extern int bpf_strstr(const char *text, const char *part) KSYM;
extern int bpf_strnstr(const char *text, const char *part, __u64 count) KSYM;

extern void bpf_rcu_read_lock(void) KSYM;
extern void bpf_rcu_read_unlock(void) KSYM;
extern void bpf_preempt_disable(void) KSYM;
extern void bpf_preempt_enable(void) KSYM;

/* Type 0 is void: what is read through the result is found or is 0. */
extern void *bpf_rdonly_cast(const void *object, __u32 type) KSYM;
