/* A plain buffer instead of a packet: r1 its address, r2 its size. Only Switchyard has this program type. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __u32);
	__uint(max_entries, 256);
} histogram SEC(".maps");

SEC("raw")
__u64 adler(__u8 *memory, __u64 size)
{
	__u32 a = 1, b = 0;
	for (__u32 i = 0; i < 128; i++) {
		if (i + 1 > size) break;
		__u32 key = memory[i];
		a = (a + key) % 65521;
		b = (b + a) % 65521;
		__u32 *count = bpf_map_lookup_elem(&histogram, &key);
		if (count) *count += 1;
	}
	if (size >= 4) *(__u32 *)memory = b << 16 | a;
	return (__u64)b << 16 | a;
}

char _license[] SEC("license") = "GPL";
