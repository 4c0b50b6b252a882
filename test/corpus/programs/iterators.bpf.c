/* Open-coded iterators: sums, nested loops, early ends, loops in functions, bounds that only run time knows. */
/* variants: v2 v3 v4 */
#include "corpus.h"
#include "kfuncs.h"

__u64 sums[8];
__u8 table[256];
__u32 histogram[16];

static NOINLINE __u32 hash(const __u8 *bytes, int count)
{
	__u32 h = 5381;
	int i;
	NUMBERS(it, 0, count)
	EACH(i, it, 0, 256) h = h * 33 + bytes[i];
	return h;
}

static NOINLINE int step(struct bpf_iter_num *it, __u64 *sum)
{
	int *at = bpf_iter_num_next(it);
	if (!at) return 0;
	*sum += *at;
	return 1;
}

SEC("xdp")
int iterators(struct xdp_md *ctx)
{
	__u8 *data = data_of(ctx), *end = end_of(ctx);
	if (data + 14 > end) return XDP_DROP;
	int seed = data[5];
	int i, j;

	/* An unknown number of rounds; the sum is never relied on. */
	{
		__u64 sum = 0;
		NUMBERS(it, 0, seed * 7)
		EACH(i, it, 0, 4096) sum += i;
		sums[0] = sum;
	}

	/* Fills a table, with bounds that are checked inside. */
	{
		NUMBERS(it, seed, 256)
		EACH(i, it, 0, 256) table[i] = i ^ seed;
	}
	sums[1] = hash(table, 256);

	/* Nested, with break and continue. */
	{
		__u64 count = 0;
		NUMBERS(outer, 0, 40)
		EACH(i, outer, 0, 40)
		{
			if (i == seed) continue;
			NUMBERS(inner, i, 40)
			EACH(j, inner, 0, 40)
			{
				if (j - i > 10) break;
				count += table[j] & 1;
				histogram[j & 15]++;
			}
		}
		sums[2] = count;
	}

	/* Bytes of the packet, until it ends. */
	{
		__u64 sum = 0;
		NUMBERS(it, 0, 1500)
		EACH(i, it, 0, 1500)
		{
			if (data + i + 1 > end) break;
			sum = (sum << 1) ^ data[i];
		}
		sums[3] = sum;
	}

	/* Wrong order, too many, empty: no element at all. */
	{
		__u64 none = 0;
		NUMBERS(backwards, 10, 3)
		EACH(i, backwards, 0, 100) none++;
		NUMBERS(many, -2000000000, 2000000000)
		EACH(i, many, -2000000000, 2000000000) none++;
		NUMBERS(empty, 5, 5)
		EACH(i, empty, 0, 100) none++;
		sums[4] = none;
	}

	/* The iterator goes through a function. */
	{
		__u64 sum = 0;
		NUMBERS(it, -5, seed)
		for (int k = 0; k < 300; k++)
			if (!step(&it, &sum)) break;
		sums[5] = sum;
	}

	/* Left from within. */
	{
		NUMBERS(it, 0, 64)
		EACH(i, it, 0, 64) if (table[i] == data[0]) return XDP_PASS;
	}
	return XDP_TX;
}

LICENSE;
