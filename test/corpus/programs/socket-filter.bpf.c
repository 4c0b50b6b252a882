/* The oldest kind of program: legacy packet loads, and a histogram of lengths. */
#include "corpus.h"

unsigned long long load_byte(void *skb, unsigned long long offset) asm("llvm.bpf.load.byte");
unsigned long long load_half(void *skb, unsigned long long offset) asm("llvm.bpf.load.half");
unsigned long long load_word(void *skb, unsigned long long offset) asm("llvm.bpf.load.word");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(long));
	__uint(max_entries, 256);
} by_protocol SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__type(key, __u64);
	__type(value, __u64);
	__uint(max_entries, 64);
} pairs SEC(".maps");

__u32 histogram[16];

static __always_inline __u32 log2(__u32 value)
{
	__u32 r = (value > 0xffff) << 4, shift;
	value >>= r;
	shift = (value > 0xff) << 3;
	value >>= shift;
	r |= shift;
	shift = (value > 0xf) << 2;
	value >>= shift;
	r |= shift;
	shift = (value > 0x3) << 1;
	value >>= shift;
	r |= shift;
	return r | (value >> 1);
}

SEC("socket")
int filter(struct __sk_buff *skb)
{
	__u32 bin = log2(skb->len);
	if (bin < 16) histogram[bin]++;
	if (load_half(skb, 12) != ETH_P_IP) return load_byte(skb, 0) & 1 ? 0 : 64;

	__u32 protocol = load_byte(skb, ETH_HLEN + 9);
	long *value = bpf_map_lookup_elem(&by_protocol, &protocol);
	if (value) __sync_fetch_and_add(value, skb->len);

	__u64 pair = load_word(skb, ETH_HLEN + 12) << 32 | load_word(skb, ETH_HLEN + 16);
	__u64 one = 1, *count = bpf_map_lookup_elem(&pairs, &pair);
	if (count) {
		*count += 1;
	} else {
		bpf_map_update_elem(&pairs, &pair, &one, BPF_ANY);
	}
	__u32 header = (load_byte(skb, ETH_HLEN) & 0xf) * 4;
	__u32 port = load_half(skb, ETH_HLEN + header + 2);
	return port == 53 ? 0xffff : port & 0xff;
}

LICENSE;
