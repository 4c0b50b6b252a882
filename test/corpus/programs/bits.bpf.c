/* Iterators over the bits that are set: in one word and in many, of the packet and of maps, several at once. */
/* variants: v2 v3 v4 */
#include "corpus.h"
#include "kfuncs.h"

__u64 words[511];
__u64 sums[16];
int errors[8];

static NOINLINE __u64 weigh(const __u64 *from, __u32 count)
{
	__u64 sum = 0;
	int bit;
	BITS(it, from, count)
	EACH_BIT(bit, it) sum = sum * 3 + bit + 1;
	return sum ^ it_error;
}

SEC("xdp")
int bits(struct xdp_md *ctx)
{
	__u8 *data = data_of(ctx), *end = end_of(ctx);
	if (data + 14 > end) return XDP_DROP;
	__u64 mask = *(__u64 *)(data + 4), empty = 0;
	int bit;

	/* The packet itself, a copy of it, none, all. */
	sums[0] = weigh((__u64 *)data, 1);
	sums[1] = weigh(&mask, 1);
	sums[2] = weigh(&empty, 1);
	empty = -1;
	sums[3] = weigh(&empty, 1);

	/* Many words, of earlier packets too; what they become meanwhile does not matter. */
	words[0] = mask;
	words[3] = 1ull << 63 | 1;
	words[data[5] & 255] |= 1ull << (data[4] & 63);
	words[510] = 0x8000000000000001;
	sums[4] = weigh(words, 511);
	sums[5] = weigh(words, 2);
	sums[6] = weigh(words + 1, 3);
	{
		__u64 sum = 0;
		BITS(it, words, 300)
		EACH_BIT(bit, it)
		{
			words[0] = 0;
			words[3] = 0;
			sum = sum * 5 + bit;
		}
		sums[7] = sum;
	}

	/* Nested, over different words; left early. */
	{
		__u64 sum = 0;
		int other;
		words[1] = mask;
		words[2] = ~mask;
		BITS(outer, words + 1, 2)
		EACH_BIT(bit, outer)
		{
			BITS(inner, words + 1, 2)
			EACH_BIT(other, inner)
			{
				if (other > bit) break;
				sum = sum * 7 + other;
			}
		}
		sums[8] = sum;
	}

	/* What cannot be. */
	{
		BITS(null, 0, 1)
		errors[0] = null_error;
		EACH_BIT(bit, null) errors[0] = bit;
	}
	{
		BITS(nothing, &mask, 0)
		errors[1] = nothing_error;
	}
	{
		BITS(many, words, 512)
		errors[2] = many_error;
	}
	{
		BITS(overflow, words, 0x20000001)
		errors[3] = overflow_error;
	}
	{
		BITS(low, (void *)8, 1)
		errors[4] = low_error;
	}
	{
		BITS(low_many, (void *)8, 2)
		errors[5] = low_many_error;
		EACH_BIT(bit, low_many) errors[5] = bit;
	}
	return mask & 1 ? XDP_PASS : XDP_DROP;
}

LICENSE;
