/* Text to numbers with bpf_strtol and by hand; enumerations of 64 bits, signed bit fields, unions. */
#include "corpus.h"

struct fields {
	__s32 a : 5;
	__s32 b : 11;
	__u32 c : 16;
	__s64 d : 40;
	__u64 e : 24;
};

union view {
	__u64 whole;
	__u8 bytes[8];
	struct {
		__u16 low, high;
		__s32 top;
	} parts;
};

struct fields kept = { .a = -3, .b = 500, .d = -1 };
union view last;
__s64 parsed[8];
long lengths[4];

static NOINLINE __s64 by_hand(const char *text, __u32 size)
{
	__s64 value = 0;
	int negative = 0;
	for (__u32 i = 0; i < 12; i++) {
		if (i >= size) break;
		char c = text[i];
		if (i == 0 && c == '-') {
			negative = 1;
			continue;
		}
		if (c < '0' || c > '9') break;
		value = value * 10 + (c - '0');
	}
	return negative ? -value : value;
}

SEC("tc")
int numbers(struct __sk_buff *skb)
{
	char text[12] = {};
	__u8 raw[12];
	long number = 0;
	unsigned long positive = 0;

	if (bpf_skb_load_bytes(skb, 6, raw, sizeof(raw))) return TC_ACT_SHOT;
	for (int i = 0; i < 9; i++) text[i + 1] = '0' + raw[i] % 11;
	text[0] = raw[0] & 1 ? '-' : '7';
	lengths[0] = bpf_strtol(text, sizeof(text), 0, &number);
	parsed[0] = number;
	lengths[1] = bpf_strtoul(text + 1, 8, 16, &positive);
	parsed[1] = positive;
	lengths[2] = bpf_strtol(text, 3, 8, &number);
	parsed[2] = number;
	parsed[3] = by_hand(text, sizeof(text));
	parsed[4] += by_hand(text, raw[3]);

	kept.a += raw[0];
	kept.b -= raw[1] * 3;
	kept.c ^= raw[2] << 8 | raw[3];
	kept.d = kept.d * 3 + kept.a;
	kept.e += kept.b;
	last.whole = *(__u64 *)raw ^ last.whole << 1;
	last.bytes[raw[9] & 7] = raw[10];
	last.parts.top += last.parts.low - last.parts.high;
	parsed[5] = kept.a * kept.b;
	parsed[6] = kept.d < 0 ? -kept.d : kept.d;
	parsed[7] = last.parts.top >> 3;
	skb->mark = kept.c + last.bytes[1];
	skb->priority = (__u32)parsed[5];
	return parsed[5] < 0 ? TC_ACT_PIPE : TC_ACT_OK;
}

LICENSE;
