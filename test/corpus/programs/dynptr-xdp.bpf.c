/* Dynptrs over the packet and over a map value: slices, copies, clones, adjusted windows, all their errors. */
/* variants: v2 v3 v4 */
#include "corpus.h"
#include "kfuncs.h"

__u8 scratch[64];
__s64 results[32];

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u8[64]);
} store SEC(".maps");

static __always_inline __s64 checksum(struct bpf_dynptr *ptr)
{
	__u8 bytes[16];
	__u64 sum = 0;
	__u32 size = bpf_dynptr_size(ptr);
	int i;
	NUMBERS(it, 0, 128)
	EACH(i, it, 0, 128)
	{
		if (bpf_dynptr_read(bytes, sizeof(bytes), ptr, i * 16, 0)) break;
		for (int k = 0; k < 16; k++) sum = sum * 31 + bytes[k];
	}
	return sum + size;
}

SEC("xdp")
int packets(struct xdp_md *ctx)
{
	struct bpf_dynptr packet, window, local, other;
	__u8 buffer[14] = {}, small[4] = { 1, 2, 3, 4 };
	__u32 key = 0;

	results[0] = bpf_dynptr_from_xdp(ctx, 1, &other);
	results[1] = (bpf_dynptr_is_null(&other) & 1);
	results[2] = bpf_dynptr_size(&other);
	results[3] = bpf_dynptr_from_xdp(ctx, 0, &packet);
	results[4] = (bpf_dynptr_is_null(&packet) & 1) | (bpf_dynptr_is_rdonly(&packet) & 1) << 1;
	results[5] = checksum(&packet);

	struct ethhdr *eth = bpf_dynptr_slice(&packet, 0, buffer, sizeof(*eth));
	if (!eth) return XDP_DROP;
	results[6] = eth->h_proto;
	__u8 *address = bpf_dynptr_slice_rdwr(&packet, 6, buffer, 6);
	if (!address) return XDP_DROP;
	address[5] ^= 0xff;
	results[7] = bpf_dynptr_write(&packet, 0, small, 4, 0);
	results[8] = bpf_dynptr_write(&packet, 0, small, 4, 1);
	results[9] = bpf_dynptr_write(&packet, 2000, small, 4, 0);
	results[10] = bpf_dynptr_read(small, 4, &packet, 12, 0);
	results[11] = bpf_dynptr_read(small, 4, &packet, 12, 7);
	results[12] = bpf_dynptr_data(&packet, 0, 4) != 0;

	results[13] = bpf_dynptr_clone(&packet, &window);
	results[14] = bpf_dynptr_adjust(&window, 14, bpf_dynptr_size(&window));
	results[15] = bpf_dynptr_adjust(&window, 5, 2);
	results[16] = bpf_dynptr_adjust(&window, 0, 60000);
	results[17] = checksum(&window);
	__u8 *inner = bpf_dynptr_slice(&window, 4, 0, 4);
	results[18] = inner ? inner[1] : -1;

	__u8 *value = bpf_map_lookup_elem(&store, &key);
	if (!value) return XDP_DROP;
	results[19] = bpf_dynptr_from_mem(value, 64, 0, &local);
	results[20] = bpf_dynptr_write(&local, 60, small, 4, 0);
	results[21] = bpf_dynptr_write(&local, 61, small, 4, 0);
	results[22] = bpf_dynptr_copy(&local, 8, &packet, 0, 14);
	results[23] = bpf_dynptr_copy(&packet, 0, &local, 60, 4);
	results[24] = bpf_dynptr_copy(&local, 0, &window, 100, 64);
	results[25] = bpf_dynptr_memset(&local, 30, 7, 0xab);
	results[26] = bpf_dynptr_memset(&local, 60, 7, 0xab);
	__u32 *word = bpf_dynptr_data(&local, 40, 4);
	if (word) *word += 1;
	results[27] = bpf_dynptr_data(&local, 61, 4) != 0;
	results[28] = checksum(&local);
	__u8 *own = bpf_dynptr_slice_rdwr(&local, 50, 0, 2);
	if (own) own[0]++, own[1] = own[0];
	results[29] = bpf_dynptr_from_mem(scratch, 64, 4, &other);
	results[30] = bpf_dynptr_copy(&other, 0, &local, 0, 4);
	results[31] = bpf_dynptr_memset(&other, 0, 0, 1);
	return XDP_PASS;
}

/* The frame shrinks and grows behind the dynptr's back. */
SEC("xdp")
int shrink(struct xdp_md *ctx)
{
	struct bpf_dynptr packet, after;
	__u8 bytes[8] = {};
	if (bpf_dynptr_from_xdp(ctx, 0, &packet)) return XDP_DROP;
	__u32 size = bpf_dynptr_size(&packet);
	if (bpf_xdp_adjust_head(ctx, 4)) return XDP_DROP;
	results[0] = bpf_dynptr_size(&packet) - size;
	results[1] = bpf_dynptr_read(bytes, 8, &packet, 0, 0);
	results[2] = *(__u64 *)bytes;
	results[3] = bpf_dynptr_read(bytes, 8, &packet, size - 8, 0);
	results[4] = bpf_dynptr_write(&packet, size - 8, bytes, 8, 0);
	results[5] = bpf_dynptr_from_xdp(ctx, 0, &after);
	results[6] = bpf_dynptr_size(&after) - size;
	bpf_xdp_adjust_head(ctx, -4);
	return XDP_PASS;
}

LICENSE;
