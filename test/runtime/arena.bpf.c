/* Programs with an arena; compiled by clang with -mcpu=v4. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define MAP_TYPE_ARENA 33
#define __arena __attribute__((address_space(1)))
#define MAX_NODES 100

struct {
	__uint(type, MAP_TYPE_ARENA);
	__uint(map_flags, 1 << 10);
	__uint(max_entries, 3);
} arena SEC(".maps");

struct node {
	struct node __arena *next;
	long value;
};

/* Set by user space: a list whose nodes lie in the arena. */
struct node __arena *head;

int __arena counter = 5;
long __arena table[16];
short __arena narrow[8] = { -3, 7 };
struct node __arena *__arena last;

/* Follows pointers that user space wrote, leaves one for it to follow. */
SEC("xdp") int list(struct xdp_md *ctx)
{
	struct node __arena *node = head;
	long sum = 0;
	int i;

	for (i = 0; i < MAX_NODES && node; i++) {
		sum += node->value;
		last = node;
		node = node->next;
	}
	counter += sum;
	table[sum & 15]++;
	table[3] += narrow[sum & 1];
	__sync_fetch_and_add(&table[4], 7);
	return counter & 0xff;
}

/* Null and wild pointers: reads give 0, writes are lost. */
SEC("xdp") int wild(struct xdp_md *ctx)
{
	volatile struct node __arena *node = (void __arena *)(long)(ctx->rx_queue_index & 7);
	volatile char __arena *far = (void __arena *)((char __arena *)table + (1 << 20));
	volatile char __arena *end = (void __arena *)((char __arena *)&counter + 3 * 4096 - 4);

	node->value = 3;
	*far = 1;
	end[3] = 9;
	*(volatile long __arena *)end = 0x0101010101010101;
	return node->value + *far + end[3] + 2 + (counter & 0);
}

/* Arithmetic of every kind on pointers, and a round trip through a scalar. */
SEC("tc") int arithmetic(struct __sk_buff *ctx)
{
	char __arena *p = (char __arena *)table;
	unsigned long n = ctx->len & 7;
	long __arena *q;

	p += n * 8;
	p = (char __arena *)((unsigned long)p | 0);
	q = (long __arena *)p;
	q[8] = 11;
	q[8] ^= 2;
	__sync_lock_test_and_set(&q[1], 5);
	__sync_val_compare_and_swap(&q[1], 5, n + 100);
	return q[8] + q[1];
}

/* A global function, verified by itself: what it gets is a number until it is cast. */
__attribute__((noinline)) long total(struct node __arena *node __attribute__((btf_decl_tag("arg:arena"))), int limit)
{
	long sum = 0;
	int i;

	for (i = 0; i < 8 && i < limit && node; i++) {
		sum += node->value;
		node = node->next;
	}
	return sum;
}

SEC("xdp") int global(struct xdp_md *ctx)
{
	return (total(head, 5) + total(last, 7)) & 0xff;
}

char _license[] SEC("license") = "GPL";
