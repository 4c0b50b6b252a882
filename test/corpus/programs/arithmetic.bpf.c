/* 64- and 32-bit sums of all kinds: SipHash, Jenkins' hash, variable shifts, division, comparisons of both signs. */
#include "corpus.h"

#define ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))
#define ROUND                                                      \
	v0 += v1; v1 = ROTL(v1, 13); v1 ^= v0; v0 = ROTL(v0, 32);  \
	v2 += v3; v3 = ROTL(v3, 16); v3 ^= v2;                     \
	v0 += v3; v3 = ROTL(v3, 21); v3 ^= v0;                     \
	v2 += v1; v1 = ROTL(v1, 17); v1 ^= v2; v2 = ROTL(v2, 32);

__u64 results[16];

static NOINLINE __u64 siphash(__u64 k0, __u64 k1, __u64 a, __u64 b)
{
	__u64 v0 = k0 ^ 0x736f6d6570736575ull, v1 = k1 ^ 0x646f72616e646f6dull;
	__u64 v2 = k0 ^ 0x6c7967656e657261ull, v3 = k1 ^ 0x7465646279746573ull;
	v3 ^= a;
	ROUND ROUND
	v0 ^= a;
	v3 ^= b;
	ROUND ROUND
	v0 ^= b;
	v2 ^= 0xff;
	ROUND ROUND ROUND ROUND
	return v0 ^ v1 ^ v2 ^ v3;
}

static __always_inline __u32 rol32(__u32 x, __u32 b) { return (x << b) | (x >> (32 - b)); }

static __always_inline __u32 jenkins(__u32 a, __u32 b, __u32 c)
{
	c ^= b; c -= rol32(b, 14);
	a ^= c; a -= rol32(c, 11);
	b ^= a; b -= rol32(a, 25);
	c ^= b; c -= rol32(b, 16);
	a ^= c; a -= rol32(c, 4);
	b ^= a; b -= rol32(a, 14);
	c ^= b; c -= rol32(b, 24);
	return c;
}

SEC("xdp")
int arithmetic(struct xdp_md *ctx)
{
	void *data = data_of(ctx), *end = end_of(ctx);
	__u64 *words = data;
	if (data + 48 > end) return XDP_DROP;
	__u64 a = words[0], b = words[1], c = words[2], d = words[3];
	__s64 s = words[4], t = words[5];
	__u32 lo = a, hi = a >> 32;

	results[0] += siphash(a, b, c, d);
	results[1] ^= jenkins(lo, hi, b);
	results[2] = a * b + c * d;
	results[3] = d ? a / d : ~0ull;
	results[4] = b ? c % b : 7;
	results[5] = (__u32)c / ((__u32)d | 1);
	results[6] = (__u32)a % ((hi & 0xff) + 1);
	results[7] = a << (b & 63);
	results[8] = a >> (c & 63);
	results[9] = s >> (d & 63);
	results[10] = (__s32)lo >> (hi & 31);
	results[11] = (s < t) | (s <= -1) << 1 | (a < b) << 2 | ((__s32)lo > (__s32)hi) << 3 | (lo >= hi) << 4;
	results[12] = (a & ~b) | (c ^ -d);
	results[13] = (__u64)lo * hi - (__u32)(lo * hi);
	results[14] = bpf_be64_to_cpu(a) + bpf_ntohl(lo) + bpf_ntohs(hi);
	results[15] += s < 0 ? -s : t > 1000 ? 1000 : t;
	for (int i = 0; i < 16; i++) results[i] = ROTL(results[i], 5) ^ (i * 0x9e3779b97f4a7c15ull);
	words[0] = results[11];
	words[3] = results[0] ^ results[15];
	return results[0] % 3 ? XDP_PASS : XDP_TX;
}

LICENSE;
