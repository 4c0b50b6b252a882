/* A tiny machine that runs the payload as its program: a big switch in a bounded loop. */
#include "corpus.h"

#define STEPS 24

struct machine {
	__u32 regs[4];
	__u32 steps;
	__u32 stopped;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct machine);
	__uint(max_entries, 1);
} machines SEC(".maps");

const volatile char verdicts[] = { XDP_PASS, XDP_DROP, XDP_TX, XDP_ABORTED };

static NOINLINE __u32 step(__u32 op, __u32 a, __u32 b)
{
	switch (op & 31) {
	case 0: return a + b;
	case 1: return a - b;
	case 2: return a * b;
	case 3: return b ? a / b : 1;
	case 4: return b ? a % b : 2;
	case 5: return a & b;
	case 6: return a | b;
	case 7: return a ^ b;
	case 8: return a << (b & 31);
	case 9: return a >> (b & 31);
	case 10: return (__s32)a >> (b & 31);
	case 11: return ~a;
	case 12: return -a;
	case 13: return __builtin_bswap32(a);
	case 14: return __builtin_bswap16(a);
	case 15: return a < b;
	case 16: return (__s32)a < (__s32)b;
	case 17: return a == b;
	case 18: return (a << 7) | (a >> 25);
	case 19: return (__u8)a;
	case 20: return (__s32)(__s8)a;
	case 21: return (__s32)(__s16)a;
	case 22: return a > 1000 ? 1000 : a;
	case 23: return ((__u64)a * b) >> 32;
	case 24: return b;
	default: return a + op;
	}
}

SEC("xdp")
int payload_vm(struct xdp_md *ctx)
{
	__u8 *data = data_of(ctx), *end = end_of(ctx);
	__u32 zero = 0;
	struct machine *machine = bpf_map_lookup_elem(&machines, &zero);

	if (!machine) return XDP_ABORTED;
	for (__u32 i = 0; i < STEPS; i++) {
		__u8 *code = data + ETH_HLEN + i * 2;
		if (code + 2 > end) {
			machine->stopped++;
			break;
		}
		__u32 a = code[1] & 3, b = code[1] >> 2 & 3;
		machine->regs[a] = step(code[0], machine->regs[a], code[1] & 0x10 ? code[1] : machine->regs[b]);
		machine->steps++;
	}
	return verdicts[machine->regs[0] & 3];
}

LICENSE;
