/* Socket filters: the packet through helpers only, the result is how much of it is kept. */
#include "corpus.h"

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);
	__uint(max_entries, 8);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct { __u32 bits; __u8 address[4]; });
	__type(value, __u32);
	__uint(max_entries, 32);
} networks SEC(".maps");

static __always_inline void count(__u32 key)
{
	__u64 *value = bpf_map_lookup_elem(&counters, &key);
	if (value) *value += 1;
}

SEC("socket")
int long_ones(struct __sk_buff *skb)
{
	count(skb->len > 64);
	return skb->len > 64 ? 64 : 0;
}

SEC("socket")
int header_only(struct __sk_buff *skb)
{
	__u8 first;
	if (bpf_skb_load_bytes(skb, 14, &first, 1)) return 0;
	__u32 words = first & 15;
	count(words & 7);
	return 14 + words * 4;
}

SEC("socket")
int ones(struct __sk_buff *skb)
{
	__u64 word;
	__u32 bits = 0;
	if (bpf_skb_load_bytes(skb, 4, &word, sizeof(word))) return 0;
	while (word) {
		word &= word - 1;
		if (++bits >= 64) break;
	}
	count(bits & 7);
	return bits;
}

SEC("socket")
int by_network(struct __sk_buff *skb)
{
	struct { __u32 bits; __u8 address[4]; } key = { .bits = 32 };
	__u32 *known, value = skb->len;
	if (bpf_skb_load_bytes(skb, 26, key.address, 4)) return 0;
	known = bpf_map_lookup_elem(&networks, &key);
	if (known) return *known;
	key.bits = 16;
	bpf_map_update_elem(&networks, &key, &value, BPF_ANY);
	return value;
}

SEC("socket")
int fletcher(struct __sk_buff *skb)
{
	__u8 bytes[8];
	__u32 a = 1, b = 0;
	if (bpf_skb_load_bytes(skb, 0, bytes, sizeof(bytes))) return 0;
	for (int i = 0; i < 8; i++) {
		a += bytes[i];
		b += a;
	}
	return (b % 251) << 8 | a % 251;
}

LICENSE;
