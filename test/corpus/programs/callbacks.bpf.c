/* bpf_loop with its context on the stack, bpf_strncmp with constants, trace output, unobservable randomness. */
#include "corpus.h"

struct scan {
	struct xdp_md *ctx;
	__u64 hash;
	__u32 zeros, newline;
	__u8 window[8];
};

__u64 iterations, methods[4], noise;
const volatile __u64 noise_mask = 0;
const volatile __u32 most = 64;

static long scan_byte(__u32 index, void *argument)
{
	struct scan *scan = argument;
	void *data = data_of(scan->ctx), *end = end_of(scan->ctx);
	__u8 *byte;
	if (index > 100) return 1;
	byte = data + index + ETH_HLEN;

	if ((void *)(byte + 1) > end) return 1;
	scan->hash = (scan->hash ^ *byte) * 0x100000001b3ull;
	if (*byte == 0) scan->zeros++;
	if (*byte == '\n') scan->newline = index;
	scan->window[index & 7] = *byte;
	return 0;
}

static long outer(__u32 index, void *argument)
{
	struct scan *scan = argument;
	scan->hash += index;
	return bpf_loop(2 + index, scan_byte, scan, 0) < 2;
}

SEC("xdp")
int callbacks(struct xdp_md *ctx)
{
	struct scan scan = { .ctx = ctx, .hash = 0xcbf29ce484222325ull };
	long done = bpf_loop(most, scan_byte, &scan, 0);
	char method[8] = {};

	iterations += done;
	iterations += bpf_loop(5, outer, &scan, 0) * 1000;
	noise |= bpf_get_prandom_u32() & noise_mask;
	noise |= bpf_ktime_get_ns() & noise_mask;
	__builtin_memcpy(method, scan.window, 7);
	if (bpf_strncmp(method, sizeof(method), "GET") == 0) methods[0]++;
	if (bpf_strncmp(method, 3, "GET") == 0) methods[1]++;
	if (bpf_strncmp(method, 4, "POST") == 0) methods[2]++;
	if (bpf_strncmp(method, sizeof(method), "M") < 0) methods[3]++;
	bpf_printk("%d bytes, %u zeros, %llx", (int)done, scan.zeros, scan.hash);

	void *data = data_of(ctx), *end = end_of(ctx);
	if (data + 14 > end) return XDP_ABORTED;
	*(__u64 *)data = scan.hash;
	*(__u32 *)(data + 8) = scan.zeros << 16 | scan.newline;
	return scan.hash & 1 ? XDP_PASS : XDP_TX;
}

LICENSE;
