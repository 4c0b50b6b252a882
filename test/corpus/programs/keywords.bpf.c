/* String tables in read-only data, copies and comparisons on the stack, a pointer table kept by hand. */
#include "corpus.h"

#define WORD 8

struct keyword {
	char text[WORD];
	__u8 length;
	__u8 action;
};

static const struct keyword keywords[] = {
	{ "GET ", 4, XDP_PASS },
	{ "POST ", 5, XDP_PASS },
	{ "DELETE ", 7, XDP_DROP },
	{ "OPTIONS", 7, XDP_TX },
	{ "HELO", 4, XDP_DROP },
	{ "SSH-2.0", 7, XDP_PASS },
	{ "\x16\x03\x01", 3, XDP_TX },
};
#define KEYWORDS (sizeof(keywords) / sizeof(*keywords))

struct record {
	char text[32];
	__u32 offset;
	__u32 count;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, char[16]);
	__type(value, struct record);
	__uint(max_entries, 16);
} records SEC(".maps");

char banner[] = "switch";

static NOINLINE int find(const char *text)
{
	for (__u32 i = 0; i < KEYWORDS; i++) {
		int same = 1;
		for (__u32 j = 0; j < WORD; j++) {
			if (j >= keywords[i].length) break;
			if (keywords[i].text[j] != text[j]) {
				same = 0;
				break;
			}
		}
		if (same) return i;
	}
	return -1;
}

SEC("xdp")
int keyword(struct xdp_md *ctx)
{
	struct cursor cursor = cursor_of(ctx);
	struct ethhdr *eth = take(&cursor, sizeof(*eth));
	struct iphdr *ip = eth ? take(&cursor, sizeof(*ip)) : 0;
	char text[40] __attribute__((aligned(8))), key[16];
	char *payload;

	if (!ip || eth->h_proto != bpf_htons(ETH_P_IP)) return XDP_PASS;
	if (ip->protocol == IPPROTO_TCP) {
		if (!take(&cursor, sizeof(struct tcphdr))) return XDP_PASS;
	} else if (ip->protocol == IPPROTO_UDP) {
		if (!take(&cursor, sizeof(struct udphdr))) return XDP_PASS;
	}
	payload = take(&cursor, WORD);
	if (!payload) return XDP_PASS;
	__builtin_memset(text, ' ', sizeof(text));
	__builtin_memcpy(text + 3, payload, WORD);
	__builtin_memcpy(text + 20, banner, sizeof(banner));
	int which = find(text + 3);
	__builtin_memcpy(key, text + 3, sizeof(key));
	struct record *record = bpf_map_lookup_elem(&records, key);
	if (record) {
		record->count++;
		if (*(__u64 *)record->text != *(__u64 *)text) return XDP_ABORTED;
	} else {
		struct record fresh = { .offset = (__u32)((void *)payload - (void *)eth), .count = 1 };
		__builtin_memcpy(fresh.text, text, sizeof(fresh.text));
		bpf_map_update_elem(&records, key, &fresh, BPF_ANY);
	}
	if (which < 0 || which >= (int)KEYWORDS) return XDP_PASS;
	banner[5] = 'a' + which;
	return keywords[which].action;
}

LICENSE;
