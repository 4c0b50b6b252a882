/* variants: v4 */
/* Inline assembly, may_goto loops, gotol, barriers: what people write when the compiler gets in the way. */
#include "corpus.h"

__u64 sums[64];
__u64 rounds;

SEC("xdp")
int assembly(struct xdp_md *ctx)
{
	void *data = data_of(ctx), *end = end_of(ctx);
	__u64 value, total = 0;
	__u32 i;
	if (data + 32 > end) return XDP_DROP;
	value = *(__u64 *)data;

	asm volatile("%[v] s>>= 3\n%[v] *= 0x1234567\n%[v] = bswap32 %[v]" : [v] "+r"(value));
	asm volatile goto("if %[v] & 0x40 goto %l[odd]" : : [v] "r"(value) : : odd);
	total += 1000;
odd:
	for (i = 0; i < 1000000; i++) {
		asm volatile goto("may_goto %l[out]" : : : : out);
		if (i >= (value & 63)) break;
		sums[i & 63] += value >> (i & 31);
		total += sums[(i * 7) & 63];
	}
out:
	asm volatile("if %[t] > 5 goto 1f\n%[t] += 77\ngotol 2f\n1: %[t] -= 5\n2:" : [t] "+r"(total));
	rounds += i;
	*(__u64 *)(data + 8) = total;
	return total & 4 ? XDP_PASS : XDP_TX;
}

LICENSE;
