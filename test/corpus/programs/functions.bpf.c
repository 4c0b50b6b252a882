/* Static and global functions: pointers to the stack as arguments, nesting, recursion by hand, many arguments. */
#include "corpus.h"

struct point {
	__s32 x, y;
	__u8 tag[4];
};

__u64 calls;
int factor = 3;

__attribute__((noinline)) int global_scale(int value, int by)
{
	calls++;
	return value * by + factor;
}

__attribute__((noinline)) int global_sum(struct point *point)
{
	if (!point) return -1;
	return global_scale(point->x, point->y) + point->tag[0];
}

__attribute__((noinline)) int global_parse(struct xdp_md *ctx, __u32 offset)
{
	__u8 *data = data_of(ctx), *end = end_of(ctx);
	if (offset > 64) return -2;
	data += offset;
	if (data + 4 > end) return -3;
	return data[0] << 16 | data[1] << 8 | data[3];
}

__weak int overridable(int value) { return value ^ 0x55; }

static NOINLINE int many(int a, int b, int c, int d, int e) { return a + b * 2 + c * 4 + d * 8 + e * 16; }

static NOINLINE void fill(struct point *point, __u32 seed)
{
	point->x = seed & 0xfff;
	point->y = -(int)(seed >> 20);
	__builtin_memset(point->tag, seed >> 3, sizeof(point->tag));
}

static NOINLINE __u64 deep3(__u64 value, __u64 *out)
{
	volatile __u64 room[4] = { value, value + 1, value + 2, value + 3 };
	*out += room[value & 3];
	return room[0] ^ room[3];
}

static NOINLINE __u64 deep2(__u64 value, __u64 *out)
{
	__u64 local = 0;
	__u64 result = deep3(value + 1, &local) + deep3(value + 2, out);
	return result + local;
}

static NOINLINE __u64 deep1(__u64 value)
{
	__u64 out = 5;
	__u64 result = deep2(value, &out);
	return result * out;
}

SEC("xdp")
int functions(struct xdp_md *ctx)
{
	struct point point = {}, copy;
	int word = global_parse(ctx, 10);
	void *data, *end;

	fill(&point, word);
	copy = point;
	copy.x += global_sum(&point);
	copy.y = many(copy.x, point.y, word, ctx->ingress_ifindex, overridable(word));
	__u64 deep = deep1(word & 0xff);
	data = data_of(ctx);
	end = end_of(ctx);
	if (data + 24 > end) return XDP_DROP;
	__builtin_memcpy(data, &copy, sizeof(copy));
	*(__u64 *)(data + 16) = deep;
	return (copy.x ^ copy.y) & 1 ? XDP_TX : XDP_PASS;
}

SEC("xdp")
int functions_again(struct xdp_md *ctx)
{
	return global_scale(global_parse(ctx, 2), 7) & 1 ? XDP_PASS : XDP_DROP;
}

LICENSE;
