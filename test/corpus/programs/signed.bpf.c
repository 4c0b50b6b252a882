/* variants: v4 */
/* What only instruction set 4 has: signed division and modulo, sign-extending loads and moves, byte swaps. */
#include "corpus.h"

struct sample {
	__s8 byte;
	__s8 bytes[3];
	__s16 half;
	__s16 halves[3];
	__s32 word;
	__s64 wide;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, __s64[8]);
	__uint(max_entries, 8);
} totals SEC(".maps");

static const __s8 weights[8] = { -1, 2, -3, 4, -128, 127, 0, 9 };
__s32 low = -5;
__s16 deltas[4] = { -300, 300, -1, 0 };

static NOINLINE __s64 divide(__s64 a, __s64 b) { return b ? a / b : 0; }
static NOINLINE __s64 modulo(__s64 a, __s64 b) { return b ? a % b : a; }
static NOINLINE __s32 divide32(__s32 a, __s32 b) { return b ? a / b : 0; }
static NOINLINE __s32 modulo32(__s32 a, __s32 b) { return b ? a % b : a; }

SEC("xdp")
int signed_numbers(struct xdp_md *ctx)
{
	void *data = data_of(ctx), *end = end_of(ctx);
	struct sample *in = data;
	__u32 key;
	if ((void *)(in + 1) > end) return XDP_DROP;
	key = in->bytes[0] & 7;
	__s64(*out)[8] = bpf_map_lookup_elem(&totals, &key);
	if (!out) return XDP_ABORTED;

	(*out)[0] += divide(in->wide, in->word) + divide(in->wide, -7);
	(*out)[1] += modulo(in->wide, in->half) - modulo(in->word, 10);
	(*out)[2] += divide32(in->word, in->half) * weights[in->half & 7];
	(*out)[3] += modulo32(in->word, in->byte);
	(*out)[4] += in->byte * in->bytes[1] + in->halves[1];
	(*out)[5] += deltas[key & 3] / (in->bytes[2] | 1) + low;
	(*out)[6] ^= __builtin_bswap64(in->wide) ^ __builtin_bswap32(in->word) ^ __builtin_bswap16(in->half);
	(*out)[7] += (__s64)(__s8)in->wide + (__s16)in->wide + (__s32)in->wide;
	low += in->byte >> 1;
	in->wide = (*out)[0] % 1000;
	in->half = (*out)[1];
	return in->wide < 0 ? XDP_TX : XDP_PASS;
}

LICENSE;
