/*
 * What the kernel's verifier test tables (tools/testing/selftests/bpf/verifier/ of Linux 6.1) need to compile: the
 * structure they initialise and the short-hands they use, as far as the dump wants them.
 */
#ifndef KERNEL_TABLES_SHIM_H
#define KERNEL_TABLES_SHIM_H

#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <linux/types.h>
#include <linux/bpf.h>
#include <linux/bpf_perf_event.h>
#include <linux/if_ether.h>
/* BPF_MOV64_IMM() and its kin; from the kernel's tools/include. */
#include "instructions.h"

typedef __u32 u32;
typedef __u64 u64;

enum {
	MAX_TABLE_INSNS = 512,
	MAX_PATTERN = 32,
	MAX_FIXUPS = 8,
	MAX_TEST_RUNS = 8,
	TEST_DATA_LEN = 64,
	MAX_ENTRIES = 11,
};

/* A retval that stands for "some address". */
#define POINTER_VALUE 0xcafe4aULL

#define F_NEEDS_EFFICIENT_UNALIGNED_ACCESS (1 << 0)
#define F_LOAD_WITH_STRICT_ALIGNMENT (1 << 1)

#define INSN_OFF_MASK ((__s16)0xffff)
#define INSN_IMM_MASK ((__s32)0xffffffff)
#define SKIP_INSNS() BPF_RAW_INSN(0xde, 0xa, 0xd, 0xbeef, 0xdeadbeef)

#ifndef offsetofend
#define offsetofend(type, member) (offsetof(type, member) + sizeof(((type *)0)->member))
#endif

/* Values of the maps. */
struct test_val {
	unsigned int index;
	int foo[MAX_ENTRIES];
};
struct other_val {
	long long foo;
	long long bar;
};

/* Program BTF only matters for program types that are not compared. */
#define BTF_INT_SIGNED 1
#define BTF_TYPE_INT_ENC(...) 1
#define BTF_PTR_ENC(...) 1
#define BTF_FUNC_PROTO_ENC(...) 1
#define BTF_FUNC_PROTO_ARG_ENC(...) 1
#define BTF_FUNC_ENC(...) 1
#define BTF_END_RAW 0

/* The programs too long to write down are made by name, see fillers.ts. */
#define FILLERS(X)                                                                                                     \
	X(bpf_fill_ld_abs_vlan_push_pop)                                                                                   \
	X(bpf_fill_jump_around_ld_abs)                                                                                     \
	X(bpf_fill_rand_ld_dw)                                                                                             \
	X(bpf_fill_scale)                                                                                                  \
	X(bpf_fill_torturous_jumps)                                                                                        \
	X(bpf_fill_big_prog_with_loop_1)
#define DECLARE_FILLER(name) static const char name[] = #name;
FILLERS(DECLARE_FILLER)

/* Each kind of fixup is a field `fixup_<kind>` that lists instructions to give a map of that kind. */
#define FIXUPS(X)                                                                                                      \
	X(map_hash_8b)                                                                                                     \
	X(map_hash_48b)                                                                                                    \
	X(map_hash_16b)                                                                                                    \
	X(map_array_48b)                                                                                                   \
	X(map_sockmap)                                                                                                     \
	X(map_sockhash)                                                                                                    \
	X(map_xskmap)                                                                                                      \
	X(map_stacktrace)                                                                                                  \
	X(prog1)                                                                                                           \
	X(prog2)                                                                                                           \
	X(map_in_map)                                                                                                      \
	X(cgroup_storage)                                                                                                  \
	X(percpu_cgroup_storage)                                                                                           \
	X(map_spin_lock)                                                                                                   \
	X(map_array_ro)                                                                                                    \
	X(map_array_wo)                                                                                                    \
	X(map_array_small)                                                                                                 \
	X(sk_storage_map)                                                                                                  \
	X(map_event_output)                                                                                                \
	X(map_reuseport_array)                                                                                             \
	X(map_ringbuf)                                                                                                     \
	X(map_timer)                                                                                                       \
	X(map_kptr)

#define RUN_FIELDS                                                                                                     \
	struct {                                                                                                           \
		uint32_t retval, retval_unpriv;                                                                                \
		union {                                                                                                        \
			__u8 data[TEST_DATA_LEN];                                                                                  \
			__u64 data64[TEST_DATA_LEN / 8];                                                                           \
		};                                                                                                             \
	}

struct bpf_test {
	const char *descr;
	struct bpf_insn insns[MAX_TABLE_INSNS];
	struct bpf_insn expected_insns[MAX_PATTERN];
	struct bpf_insn unexpected_insns[MAX_PATTERN];
#define DECLARE_FIXUP(kind) int fixup_##kind[MAX_FIXUPS];
	FIXUPS(DECLARE_FIXUP)
	struct {
		const char *kfunc;
		int insn_idx;
	} fixup_kfunc_btf_id[MAX_FIXUPS];
	const char *errstr, *errstr_unpriv;
	uint32_t insn_processed;
	enum { UNDEF, ACCEPT, REJECT, VERBOSE_ACCEPT } result, result_unpriv;
	enum bpf_prog_type prog_type;
	uint8_t flags;
	const char *fill_helper;
	/* 0 means once, -1 never. */
	int runs;
	union {
		RUN_FIELDS;
		RUN_FIELDS retvals[MAX_TEST_RUNS];
	};
	enum bpf_attach_type expected_attach_type;
	const char *kfunc;
	struct bpf_func_info func_info[MAX_FIXUPS];
	int func_info_cnt;
	char btf_strings[256];
	__u32 btf_types[64];
};

/* The address of a zeroed tuple in r2, then a socket lookup: 13 instructions. */
#define BPF_SK_LOOKUP(func)                                                                                            \
	BPF_MOV64_IMM(BPF_REG_2, 0), BPF_STX_MEM(BPF_W, BPF_REG_10, BPF_REG_2, -8),                                        \
		BPF_STX_MEM(BPF_DW, BPF_REG_10, BPF_REG_2, -16), BPF_STX_MEM(BPF_DW, BPF_REG_10, BPF_REG_2, -24),              \
		BPF_STX_MEM(BPF_DW, BPF_REG_10, BPF_REG_2, -32), BPF_STX_MEM(BPF_DW, BPF_REG_10, BPF_REG_2, -40),              \
		BPF_STX_MEM(BPF_DW, BPF_REG_10, BPF_REG_2, -48), BPF_MOV64_REG(BPF_REG_2, BPF_REG_10),                         \
		BPF_ALU64_IMM(BPF_ADD, BPF_REG_2, -48), BPF_MOV64_IMM(BPF_REG_3, sizeof(struct bpf_sock_tuple)),               \
		BPF_MOV64_IMM(BPF_REG_4, 0), BPF_MOV64_IMM(BPF_REG_5, 0), BPF_EMIT_CALL(BPF_FUNC_##func)

/* 8 bytes of packet at r2, or exit with 0: 7 instructions. */
#define BPF_DIRECT_PKT_R2                                                                                              \
	BPF_MOV64_IMM(BPF_REG_0, 0), BPF_LDX_MEM(BPF_W, BPF_REG_2, BPF_REG_1, offsetof(struct __sk_buff, data)),           \
		BPF_LDX_MEM(BPF_W, BPF_REG_3, BPF_REG_1, offsetof(struct __sk_buff, data_end)),                                \
		BPF_MOV64_REG(BPF_REG_4, BPF_REG_2), BPF_ALU64_IMM(BPF_ADD, BPF_REG_4, 8),                                     \
		BPF_JMP_REG(BPF_JLE, BPF_REG_4, BPF_REG_3, 1), BPF_EXIT_INSN()

#define RANDOM_R7                                                                                                      \
	BPF_RAW_INSN(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_get_prandom_u32), BPF_MOV64_REG(BPF_REG_7, BPF_REG_0)

/* A random u31 in r7: 4 instructions. */
#define BPF_RAND_UEXT_R7                                                                                               \
	RANDOM_R7, BPF_ALU64_IMM(BPF_LSH, BPF_REG_7, 33), BPF_ALU64_IMM(BPF_RSH, BPF_REG_7, 33)

/* A random negative s32 in r7: 5 instructions. */
#define BPF_RAND_SEXT_R7                                                                                               \
	RANDOM_R7, BPF_ALU64_IMM(BPF_OR, BPF_REG_7, 0x80000000), BPF_ALU64_IMM(BPF_LSH, BPF_REG_7, 32),                    \
		BPF_ALU64_IMM(BPF_ARSH, BPF_REG_7, 32)

#endif
