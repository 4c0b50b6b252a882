/* Ring buffer records behind dynptrs: written in pieces, cloned, given back or thrown away. */
/* variants: v2 v3 v4 */
#include "corpus.h"
#include "kfuncs.h"

__s64 results[16];

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

SEC("xdp")
int records(struct xdp_md *ctx)
{
	struct bpf_dynptr packet, record, copy;
	__u64 stamp = 0x1122334455667788;
	bpf_dynptr_from_xdp(ctx, 0, &packet);
	__u32 size = bpf_dynptr_size(&packet);

	results[0] = bpf_ringbuf_reserve_dynptr(&ring, size + 8, 0, &record);
	results[1] = bpf_dynptr_size(&record);
	results[2] = bpf_dynptr_write(&record, 0, &stamp, 8, 0);
	results[3] = bpf_dynptr_copy(&record, 8, &packet, 0, size);
	results[4] = bpf_dynptr_write(&record, size + 4, &stamp, 8, 0);
	results[5] = bpf_dynptr_clone(&record, &copy);
	__u32 *first = bpf_dynptr_data(&copy, 0, 4);
	if (first) {
		results[6] = *first;
		*first = size;
	}
	__u8 *last = bpf_dynptr_slice(&record, 4, 0, 8);
	results[7] = last ? last[4] : -1;
	if (size & 1) bpf_ringbuf_discard_dynptr(&copy, 0);
	else bpf_ringbuf_submit_dynptr(&record, 0);

	results[8] = bpf_ringbuf_reserve_dynptr(&ring, 5000, 0, &record);
	results[9] = bpf_dynptr_size(&record);
	bpf_ringbuf_submit_dynptr(&record, 0);
	results[10] = bpf_ringbuf_reserve_dynptr(&ring, 8, 1, &record);
	bpf_ringbuf_discard_dynptr(&record, 0);
	results[11] = bpf_ringbuf_reserve_dynptr(&ring, 1 << 24, 0, &record);
	bpf_ringbuf_discard_dynptr(&record, 0);
	results[12] = bpf_ringbuf_query(&ring, 0);
	return XDP_PASS;
}

LICENSE;
