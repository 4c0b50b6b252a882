/* variants: v3 v4 */
/* Atomic operations of both widths with and without their old value: on map values, global data and the stack. */
#include "corpus.h"

struct cells {
	__u64 wide[8];
	__u32 narrow[8];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, __u32);
	__type(value, struct cells);
	__uint(max_entries, 8);
} table SEC(".maps");

__u64 global_wide = 0x1122334455667788ull;
__u32 global_narrow = 0xdeadbeef;
__u64 history[8];

SEC("xdp")
int atomics(struct xdp_md *ctx)
{
	void *data = data_of(ctx), *end = end_of(ctx);
	__u64 *words = data;
	static struct cells empty;
	if (data + 32 > end) return XDP_DROP;
	__u64 value = words[0];
	__u32 small = words[1];
	__u32 key = words[2] & 7;
	__u64 local = value ^ 0xff;

	struct cells *cells = bpf_map_lookup_elem(&table, &key);
	if (!cells) {
		bpf_map_update_elem(&table, &key, &empty, BPF_ANY);
		cells = bpf_map_lookup_elem(&table, &key);
		if (!cells) return XDP_ABORTED;
	}
	__sync_fetch_and_add(&cells->wide[0], value);
	history[0] ^= __sync_fetch_and_add(&cells->wide[1], value);
	history[1] ^= __sync_fetch_and_or(&cells->wide[2], value);
	history[2] ^= __sync_fetch_and_and(&cells->wide[0], ~value | 0xff);
	history[3] ^= __sync_fetch_and_xor(&cells->wide[3], value);
	history[4] ^= __sync_lock_test_and_set(&cells->wide[4], value);
	history[5] += __sync_val_compare_and_swap(&cells->wide[5], 0, value);
	history[6] += __sync_bool_compare_and_swap(&cells->wide[5], value, value + 1);

	__sync_fetch_and_add(&cells->narrow[0], small);
	history[0] += __sync_fetch_and_add(&cells->narrow[1], small);
	history[1] += __sync_fetch_and_or(&cells->narrow[2], small);
	history[2] += __sync_fetch_and_and(&cells->narrow[0], ~small | 0xf0);
	history[3] += __sync_fetch_and_xor(&cells->narrow[3], small);
	history[4] += __sync_lock_test_and_set(&cells->narrow[4], small);
	history[5] += __sync_val_compare_and_swap(&cells->narrow[5], 0, small);
	history[6] += __sync_val_compare_and_swap(&cells->narrow[5], small, small * 3);

	history[7] += __sync_fetch_and_add(&global_wide, cells->wide[4]);
	history[7] ^= __sync_lock_test_and_set(&global_narrow, cells->narrow[1]);
	history[7] += __sync_fetch_and_sub(&local, value);
	history[7] ^= local;
	words[1] = history[words[2] & 7];
	words[3] = local;
	return history[7] & 1 ? XDP_PASS : XDP_TX;
}

LICENSE;
