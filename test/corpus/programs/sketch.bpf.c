/* A count-min sketch and a heavy-hitter list in global data: two-dimensional arrays, min and insertion sort. */
#include "corpus.h"

#define ROWS 4
#define COLUMNS 64
#define TOP 6

__u32 sketch[ROWS][COLUMNS];
struct hitter {
	__be32 address;
	__u32 estimate;
} top[TOP + 1];
__u32 seeds[ROWS] SEC(".data.seeds") = { 0x9e3779b1, 0x85ebca6b, 0xc2b2ae35, 0x27d4eb2f };

static __always_inline __u32 mix(__u32 value, __u32 seed)
{
	value *= seed;
	value ^= value >> 15;
	value *= 0x2c1b3c6d;
	return value ^ value >> 12;
}

static NOINLINE __u32 add(__be32 address)
{
	__u32 least = ~0u;
	for (int row = 0; row < ROWS; row++) {
		__u32 column = mix(address, seeds[row]) % COLUMNS;
		__u32 count = ++sketch[row][column];
		if (count < least) least = count;
	}
	return least;
}

static NOINLINE int rank(__be32 address, __u32 estimate)
{
	int place = TOP;
	for (int i = 0; i < TOP; i++)
		if (top[i].address == address) place = i;
	top[place & 7 % (TOP + 1)].address = address;
	if (place > TOP || place < 0) return -1;
	top[place] = (struct hitter){ address, estimate };
	for (int i = TOP; i > 0; i--) {
		if (top[i].estimate > top[i - 1].estimate) {
			struct hitter swap = top[i];
			top[i] = top[i - 1];
			top[i - 1] = swap;
		}
	}
	return place;
}

SEC("xdp")
int heavy_hitters(struct xdp_md *ctx)
{
	void *data = data_of(ctx), *end = end_of(ctx);
	struct iphdr *ip = data + ETH_HLEN;
	if ((void *)(ip + 1) > end) return XDP_PASS;
	__u32 estimate = add(ip->saddr);
	int place = rank(ip->saddr, estimate);
	if (place < 0) return XDP_ABORTED;
	return estimate > 4 ? XDP_DROP : XDP_PASS;
}

LICENSE;
