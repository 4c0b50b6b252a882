/* Reads through addresses that the verifier knows nothing of: packet, stack, maps and what is no memory. */
/* variants: v2 v3 v4 */
#include "corpus.h"
#include "kfuncs.h"

struct list {
	const struct list *next;
	__u64 value;
};

__u64 found[16];
__u8 table[256];

static NOINLINE __u64 sum_of(const struct list *first)
{
	__u64 sum = 0;
	for (int i = 0; i < 8; i++) {
		const struct list *item = bpf_rdonly_cast(first, 0);
		if (!item) break;
		sum = sum * 31 + item->value;
		first = item->next;
	}
	return sum;
}

SEC("xdp")
int casts(struct xdp_md *ctx)
{
	__u8 *data = data_of(ctx), *end = end_of(ctx);
	__u32 length = end - data;
	if (length < 14) return XDP_ABORTED;
	const __u8 *bytes = bpf_rdonly_cast(data, 0);

	/* No comparison with the packet's end. */
	found[0] = bytes[0] | bytes[1] << 8;
	found[1] = *(const __u16 *)(bytes + 3);
	found[2] = *(const __u64 *)(bytes + 4);
	found[3] = *(const __s8 *)(bytes + 5);
	found[4] = *(const __s32 *)(bytes + 6);

	/* The last byte, at an offset of which nothing is known. */
	found[5] = bytes[length - 1];

	/* A list on the stack; its last link leads to address 0. */
	struct list items[4] = {};
	for (int i = 0; i < 4; i++) {
		items[i].value = bytes[i + 1];
		items[i].next = i < 3 ? &items[i + 1] : 0;
	}
	found[6] = sum_of(items);

	/* Addresses that are none. */
	const __u64 *nothing = bpf_rdonly_cast((void *)8, 0);
	found[7] = nothing[0] + nothing[bytes[1]] + 1;
	const __u32 *high = bpf_rdonly_cast((void *)0x123456789abcdef0, 0);
	found[8] = high[3] + 1;
	nothing = bpf_rdonly_cast(0, 0);
	found[9] = nothing[bytes[2]] + 1;

	/* A map's value, by an index that need not be bounded. */
	for (int i = 0; i < 256; i++) table[i] = i * 7;
	const __u8 *values = bpf_rdonly_cast(table, 0);
	found[10] = values[bytes[3]] + values[bytes[4] & 127] * 3;

	/* One load of the stack or of something else. */
	const __u64 *either = length & 1 ? &items[1].value : bpf_rdonly_cast(data, 0);
	found[11] = *either;
	return bytes[0] & 1 ? XDP_PASS : XDP_DROP;
}

LICENSE;
