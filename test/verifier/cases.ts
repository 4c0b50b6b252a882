/**
 * Small programs near the edge of what a verifier accepts. Their verdicts are the running kernel's, kept in
 * `verdicts.json`.
 *
 * Each starts with `## NAME` and, after `@`, a program type (default socket_filter) and an attach type.
 * Labels as in the assembler; `KEY8` and `KEY4` set up r2 as a pointer to a key of zeros on the stack.
 */
const TEXT = String.raw`
## returns a constant
r0 = 1
exit
## r0 not set
exit
## r0 set on one path only
if r1 == r10 goto out
r0 = 1
out:
exit
## falls off the end
r0 = 0
## ends in a conditional jump
r0 = 0
l: exit
if r0 == 0 goto l
## unreachable
r0 = 0
exit
r0 = 1
exit
## jump out of range
r0 = 0
goto +7
exit
## jump backwards out of range
r0 = 0
if r0 == 0 goto -9
exit
## jump into ld_imm64
r0 = 0
if r0 == 0 goto +1
r1 = 5 ll
exit
## infinite loop
r0 = 0
l: goto l
exit
## infinite loop with unchanged condition
r0 = *(u32 *)(r1 + 0)
l: if r0 > 3 goto l
exit
## bounded loop
r0 = 0
l: r0 += 1
if r0 < 100 goto l
exit
## loop bounded by unknown but limited number
r2 = *(u32 *)(r1 + 0)
r2 &= 63
r0 = 0
l: r0 += 1
if r0 < r2 goto l
exit
## loop that is never left
r0 = 1
l: r0 += 2
if r0 != 0 goto l
exit
## loop with stack counter
r0 = 0
*(u64 *)(r10 - 8) = r0
l: r1 = *(u64 *)(r10 - 8)
r1 += 1
*(u64 *)(r10 - 8) = r1
if r1 < 20 goto l
exit
## writes r10
r10 += 1
r0 = 0
exit
## moves to r10
r0 = 0
r10 = r0
exit
## reads uninitialised register
r0 = r2
exit
## register is lost over a call
r2 = 5
call bpf_get_prandom_u32
r0 = r2
exit
## r6 is kept over a call
r6 = 5
call bpf_get_prandom_u32
r0 = r6
exit
## r1 is lost over a call
call bpf_get_prandom_u32
r0 = *(u32 *)(r1 + 0)
exit
## shift by 64
r0 = 1
r0 <<= 64
exit
## 32-bit shift by 32
r0 = 1
w0 <<= 32
exit
## negative shift
r0 = 1
r0 >>= -1
exit
## shift by register
r0 = 1
r2 = *(u32 *)(r1 + 0)
r0 <<= r2
exit
## division by constant zero
r0 = 1
r0 /= 0
exit
## modulo by constant zero
r0 = 1
w0 %= 0
exit
## division by register
r2 = 0
r0 = 5
r0 /= r2
exit
## 32-bit add to pointer
r0 = 0
w1 += 4
exit
## 32-bit copy of pointer is a number
w0 = w1
exit
## pointer plus pointer
r0 = r10
r0 += r1
exit
## pointer minus pointer
r0 = r10
r0 -= r1
exit
## pointer minus pointer, 32 bits
r0 = r10
w0 -= w1
exit
## multiplies a pointer
r0 = r10
r0 *= 2
exit
## ands a pointer
r0 = r10
r0 &= -8
exit
## negates a pointer
r0 = r10
r0 = -r0
exit
## byte swaps a pointer
r0 = r10
r0 = bswap64 r0
exit
## subtracts from the stack pointer
r2 = r10
r2 -= 8
r0 = 0
exit
## scalar minus pointer
r0 = 8
r0 -= r10
exit
## scalar plus stack pointer
r0 = -8
r0 += r10
*(u64 *)(r0 + 0) = 1
r0 = 0
exit
## large offset to stack pointer
r0 = r10
r1 = 0x40000000 ll
r0 += r1
exit
## unbounded number to stack pointer
r2 = *(u32 *)(r1 + 0)
r2 <<= 32
r3 = r10
r3 += r2
r0 = 0
exit
## stack write and read
*(u64 *)(r10 - 8) = 7
r0 = *(u64 *)(r10 - 8)
exit
## stack above the frame
r0 = 0
*(u64 *)(r10 + 0) = r0
exit
## stack below the frame
r0 = 0
*(u64 *)(r10 - 520) = r0
exit
## stack bottom
r0 = 0
*(u64 *)(r10 - 512) = r0
exit
## stack across the top
r0 = 0
*(u64 *)(r10 - 4) = r0
exit
## misaligned stack write
r0 = 0
*(u32 *)(r10 - 7) = r0
exit
## misaligned 8 byte spill
r0 = 0
*(u64 *)(r10 - 12) = r1
exit
## byte writes, word read
*(u8 *)(r10 - 4) = 1
*(u8 *)(r10 - 3) = 1
*(u8 *)(r10 - 2) = 1
*(u8 *)(r10 - 1) = 1
r0 = *(u32 *)(r10 - 4)
exit
## spill and fill the context
*(u64 *)(r10 - 8) = r1
r2 = *(u64 *)(r10 - 8)
r0 = *(u32 *)(r2 + 0)
exit
## half of a spilled pointer
*(u64 *)(r10 - 8) = r1
r0 = *(u32 *)(r10 - 8)
exit
## upper half of a spilled pointer
*(u64 *)(r10 - 8) = r1
r0 = *(u32 *)(r10 - 4)
exit
## 32-bit spill of a pointer
*(u32 *)(r10 - 8) = r1
r0 = 0
exit
## corrupted spilled pointer
*(u64 *)(r10 - 8) = r1
*(u8 *)(r10 - 3) = 5
r2 = *(u64 *)(r10 - 8)
r0 = *(u32 *)(r2 + 0)
exit
## corrupted spilled pointer as number
*(u64 *)(r10 - 8) = r1
*(u8 *)(r10 - 3) = 5
r0 = *(u64 *)(r10 - 8)
exit
## spilled bounds survive
r2 = *(u32 *)(r1 + 0)
r2 &= 7
*(u64 *)(r10 - 8) = r2
r3 = *(u64 *)(r10 - 8)
*(u64 *)(r10 - 24) = 0
*(u64 *)(r10 - 16) = 0
r4 = r10
r4 += -24
r4 += r3
r0 = *(u8 *)(r4 + 0)
exit
## 32-bit spill keeps bounds
r2 = *(u32 *)(r1 + 0)
r2 &= 7
*(u32 *)(r10 - 8) = r2
r3 = *(u32 *)(r10 - 8)
*(u64 *)(r10 - 24) = 0
*(u64 *)(r10 - 16) = 0
r4 = r10
r4 += -24
r4 += r3
r0 = *(u8 *)(r4 + 0)
exit
## low half of spilled number
r2 = *(u32 *)(r1 + 0)
r2 &= 7
*(u64 *)(r10 - 8) = r2
r3 = *(u32 *)(r10 - 8)
*(u64 *)(r10 - 24) = 0
*(u64 *)(r10 - 16) = 0
r4 = r10
r4 += -24
r4 += r3
r0 = *(u8 *)(r4 + 0)
exit
## variable stack read
*(u64 *)(r10 - 16) = 0
*(u64 *)(r10 - 8) = 0
r2 = *(u32 *)(r1 + 0)
r2 &= 8
r3 = r10
r3 += -16
r3 += r2
r0 = *(u64 *)(r3 + 0)
exit
## variable stack read past the top
*(u64 *)(r10 - 16) = 0
*(u64 *)(r10 - 8) = 0
r2 = *(u32 *)(r1 + 0)
r2 &= 16
r3 = r10
r3 += -16
r3 += r2
r0 = *(u64 *)(r3 + 0)
exit
## variable stack read misaligned
*(u64 *)(r10 - 16) = 0
*(u64 *)(r10 - 8) = 0
r2 = *(u32 *)(r1 + 0)
r2 &= 7
r3 = r10
r3 += -16
r3 += r2
r0 = *(u64 *)(r3 + 0)
exit
## variable stack write destroys pointer
*(u64 *)(r10 - 16) = r1
*(u64 *)(r10 - 8) = r1
r2 = *(u32 *)(r1 + 0)
r2 &= 8
r3 = r10
r3 += -16
r3 += r2
*(u64 *)(r3 + 0) = r2
r4 = *(u64 *)(r10 - 8)
r0 = *(u32 *)(r4 + 0)
exit
## variable stack write unbounded
r2 = *(u32 *)(r1 + 0)
r3 = r10
r3 += r2
*(u8 *)(r3 - 100) = 1
r0 = 0
exit
## stack write below by negative variable
r2 = *(u32 *)(r1 + 0)
r2 &= 255
r3 = r10
r3 += -260
r3 += r2
*(u8 *)(r3 - 256) = 1
r0 = 0
exit
## dereferences a number
r0 = 5
r0 = *(u32 *)(r0 + 0)
exit
## dereferences a loaded number
r2 = *(u32 *)(r1 + 0)
r0 = *(u32 *)(r2 + 0)
exit
## dereferences a map
r1 = map[hash] ll
r0 = *(u32 *)(r1 + 0)
exit
## writes to a map pointer
r1 = map[hash] ll
*(u32 *)(r1 + 0) = 1
r0 = 0
exit
## arithmetic on a map pointer
r1 = map[hash] ll
r1 += 8
r0 = 0
exit
## adds zero to a map pointer
r1 = map[hash] ll
r1 += 0
r0 = 0
exit
## lookup without null check
KEY8
r1 = map[hash] ll
call bpf_map_lookup_elem
r0 = *(u64 *)(r0 + 0)
exit
## lookup with null check
KEY8
r1 = map[hash] ll
call bpf_map_lookup_elem
if r0 == 0 goto out
r0 = *(u64 *)(r0 + 8)
out: exit
## lookup with inverted null check
KEY8
r1 = map[hash] ll
call bpf_map_lookup_elem
if r0 != 0 goto out
r0 = *(u64 *)(r0 + 8)
out: exit
## lookup with null check of a copy
KEY8
r1 = map[hash] ll
call bpf_map_lookup_elem
r6 = r0
if r6 == 0 goto out
r0 = *(u64 *)(r0 + 8)
exit
out: r0 = 0
exit
## lookup with null check of a spilled copy
KEY8
r1 = map[hash] ll
call bpf_map_lookup_elem
*(u64 *)(r10 - 32) = r0
if r0 == 0 goto out
r1 = *(u64 *)(r10 - 32)
r0 = *(u64 *)(r1 + 8)
exit
out: r0 = 0
exit
## two lookups, one check
KEY8
r1 = map[hash] ll
call bpf_map_lookup_elem
r6 = r0
KEY8
r1 = map[hash] ll
call bpf_map_lookup_elem
if r0 == 0 goto out
r0 = *(u64 *)(r6 + 0)
out: exit
## null check in 32 bits
KEY8
r1 = map[hash] ll
call bpf_map_lookup_elem
if w0 == 0 goto out
r0 = *(u64 *)(r0 + 8)
out: exit
## arithmetic before null check
KEY8
r1 = map[hash] ll
call bpf_map_lookup_elem
r0 += 8
if r0 == 0 goto out
r0 = *(u64 *)(r0 + 0)
out: exit
## value out of bounds
KEY8
r1 = map[hash] ll
call bpf_map_lookup_elem
if r0 == 0 goto out
r0 = *(u64 *)(r0 + 9)
out: exit
## value before the start
KEY8
r1 = map[hash] ll
call bpf_map_lookup_elem
if r0 == 0 goto out
r0 = *(u64 *)(r0 - 1)
out: exit
## value with masked index
KEY8
r1 = map[hash] ll
call bpf_map_lookup_elem
if r0 == 0 goto out
r2 = *(u32 *)(r0 + 0)
r2 &= 15
r0 += r2
r0 = *(u8 *)(r0 + 0)
out: exit
## value with index masked too wide
KEY8
r1 = map[hash] ll
call bpf_map_lookup_elem
if r0 == 0 goto out
r2 = *(u32 *)(r0 + 0)
r2 &= 31
r0 += r2
r0 = *(u8 *)(r0 + 0)
out: exit
## value with compared index
KEY8
r1 = map[hash] ll
call bpf_map_lookup_elem
if r0 == 0 goto out
r2 = *(u64 *)(r0 + 0)
if r2 > 8 goto out
r0 += r2
r0 = *(u64 *)(r0 + 0)
out: exit
## value with signed compared index
KEY8
r1 = map[hash] ll
call bpf_map_lookup_elem
if r0 == 0 goto out
r2 = *(u64 *)(r0 + 0)
if r2 s> 8 goto out
r0 += r2
r0 = *(u64 *)(r0 + 0)
out: exit
## value with index compared from both sides
KEY8
r1 = map[hash] ll
call bpf_map_lookup_elem
if r0 == 0 goto out
r2 = *(u64 *)(r0 + 0)
if r2 s> 8 goto out
if r2 s< 0 goto out
r0 += r2
r0 = *(u64 *)(r0 + 0)
out: exit
## value with index compared in 32 bits only
KEY8
r1 = map[hash] ll
call bpf_map_lookup_elem
if r0 == 0 goto out
r2 = *(u64 *)(r0 + 0)
if w2 > 8 goto out
r0 += r2
r0 = *(u64 *)(r0 + 0)
out: exit
## value with 32-bit index compared in 32 bits
KEY8
r1 = map[hash] ll
call bpf_map_lookup_elem
if r0 == 0 goto out
r2 = *(u64 *)(r0 + 0)
w2 = w2
if w2 > 8 goto out
r0 += r2
r0 = *(u64 *)(r0 + 0)
out: exit
## value minus known index
KEY8
r1 = map[hash] ll
call bpf_map_lookup_elem
if r0 == 0 goto out
r0 += 8
r0 -= 8
r0 = *(u64 *)(r0 + 0)
out: exit
## value minus variable that stays inside
KEY8
r1 = map[hash] ll
call bpf_map_lookup_elem
if r0 == 0 goto out
r2 = *(u64 *)(r0 + 0)
r2 &= 7
r0 += 8
r0 -= r2
r0 = *(u8 *)(r0 + 0)
out: exit
## linked copy of an index
KEY8
r1 = map[hash] ll
call bpf_map_lookup_elem
if r0 == 0 goto out
r2 = *(u64 *)(r0 + 0)
r3 = r2
if r2 > 8 goto out
r0 += r3
r0 = *(u64 *)(r0 + 0)
out: exit
## linked copy plus a constant
KEY8
r1 = map[hash] ll
call bpf_map_lookup_elem
if r0 == 0 goto out
r2 = *(u64 *)(r0 + 0)
r3 = r2
r3 += 4
if r2 > 4 goto out
r0 += r3
r0 = *(u64 *)(r0 + 0)
out: exit
## copy of a copy after a change
KEY8
r1 = map[hash] ll
call bpf_map_lookup_elem
if r0 == 0 goto out
r2 = *(u64 *)(r0 + 0)
r3 = r2
r3 *= 2
if r2 > 8 goto out
r0 += r3
r0 = *(u64 *)(r0 + 0)
out: exit
## unaligned value access
KEY8
r1 = map[hash] ll
call bpf_map_lookup_elem
if r0 == 0 goto out
r0 = *(u64 *)(r0 + 3)
out: exit
## atomic add to value
KEY8
r1 = map[hash] ll
call bpf_map_lookup_elem
if r0 == 0 goto out
r1 = 1
lock *(u64 *)(r0 + 0) += r1
r0 = 0
out: exit
## misaligned atomic
KEY8
r1 = map[hash] ll
call bpf_map_lookup_elem
if r0 == 0 goto out
r1 = 1
lock *(u64 *)(r0 + 4) += r1
r0 = 0
out: exit
## atomic on the stack
*(u64 *)(r10 - 8) = 1
r1 = 1
r1 = atomic_fetch_add((u64 *)(r10 - 8), r1)
r0 = r1
exit
## atomic on the context
r0 = 1
lock *(u32 *)(r1 + 48) += r0
exit
## cmpxchg without r0
*(u64 *)(r10 - 8) = 1
r1 = 1
r0 = cmpxchg_64(r10 - 8, r0, r1)
exit
## cmpxchg
*(u64 *)(r10 - 8) = 1
r1 = 1
r0 = 0
r0 = cmpxchg_64(r10 - 8, r0, r1)
exit
## fetch into r10
*(u64 *)(r10 - 8) = 1
r10 = atomic_fetch_add((u64 *)(r10 - 8), r10)
r0 = 0
exit
## lookup with constant array index needs no check
*(u32 *)(r10 - 8) = 2
r2 = r10
r2 += -8
r1 = map[array] ll
call bpf_map_lookup_elem
r0 = *(u32 *)(r0 + 0)
exit
## lookup with constant array index out of range
*(u32 *)(r10 - 8) = 4
r2 = r10
r2 += -8
r1 = map[array] ll
call bpf_map_lookup_elem
r0 = *(u32 *)(r0 + 0)
exit
## lookup with zero index at unaligned slot
*(u32 *)(r10 - 4) = 0
r2 = r10
r2 += -4
r1 = map[array] ll
call bpf_map_lookup_elem
r0 = *(u32 *)(r0 + 0)
exit
## lookup with nonzero index at unaligned slot
*(u32 *)(r10 - 4) = 1
r2 = r10
r2 += -4
r1 = map[array] ll
call bpf_map_lookup_elem
r0 = *(u32 *)(r0 + 0)
exit
## lookup with 8 byte constant as index
*(u64 *)(r10 - 8) = 0
r2 = r10
r2 += -8
r1 = map[array] ll
call bpf_map_lookup_elem
r0 = *(u32 *)(r0 + 0)
exit
## lookup with 8 byte nonzero constant as index
*(u64 *)(r10 - 8) = 1
r2 = r10
r2 += -8
r1 = map[array] ll
call bpf_map_lookup_elem
r0 = *(u32 *)(r0 + 0)
exit
## lookup in percpu array with constant index
*(u32 *)(r10 - 8) = 1
r2 = r10
r2 += -8
r1 = map[percpu] ll
call bpf_map_lookup_elem
r0 = *(u32 *)(r0 + 4)
exit
## lookup with key in the map value
KEY8
r1 = map[hash] ll
call bpf_map_lookup_elem
if r0 == 0 goto out
r2 = r0
r2 += 8
r1 = map[hash] ll
call bpf_map_lookup_elem
if r0 == 0 goto out
r0 = 1
out: r0 = 0
exit
## key too close to the end of the value
KEY8
r1 = map[hash] ll
call bpf_map_lookup_elem
if r0 == 0 goto out
r2 = r0
r2 += 9
r1 = map[hash] ll
call bpf_map_lookup_elem
r0 = 0
exit
out: r0 = 0
exit
## key across the stack top
*(u64 *)(r10 - 8) = 0
r2 = r10
r2 += -4
r1 = map[hash] ll
call bpf_map_lookup_elem
r0 = 0
exit
## key is a number
r2 = 5
r1 = map[hash] ll
call bpf_map_lookup_elem
r0 = 0
exit
## key is the context
r2 = r1
r1 = map[hash] ll
call bpf_map_lookup_elem
r0 = 0
exit
## map is a number
KEY8
r1 = 5
call bpf_map_lookup_elem
r0 = 0
exit
## lookup in a prog array
KEY4
r1 = map[progs] ll
call bpf_map_lookup_elem
r0 = 0
exit
## update
KEY8
*(u64 *)(r10 - 32) = 0
*(u64 *)(r10 - 24) = 0
r3 = r10
r3 += -32
r4 = 0
r1 = map[hash] ll
call bpf_map_update_elem
exit
## update of a prog array
KEY4
r3 = r2
r4 = 0
r1 = map[progs] ll
call bpf_map_update_elem
exit
## update without flags
KEY8
*(u64 *)(r10 - 32) = 0
*(u64 *)(r10 - 24) = 0
r3 = r10
r3 += -32
r1 = map[hash] ll
call bpf_map_update_elem
exit
## map in map
KEY4
r1 = map[outer] ll
call bpf_map_lookup_elem
if r0 == 0 goto out
r1 = r0
KEY4
call bpf_map_lookup_elem
if r0 == 0 goto out
r0 = *(u64 *)(r0 + 8)
out: exit
## map in map without check
KEY4
r1 = map[outer] ll
call bpf_map_lookup_elem
r1 = r0
KEY4
call bpf_map_lookup_elem
r0 = 0
exit
## map in map out of bounds
KEY4
r1 = map[outer] ll
call bpf_map_lookup_elem
if r0 == 0 goto out
r1 = r0
KEY4
call bpf_map_lookup_elem
if r0 == 0 goto out
r0 = *(u64 *)(r0 + 9)
out: exit
## dereferences an inner map
KEY4
r1 = map[outer] ll
call bpf_map_lookup_elem
if r0 == 0 goto out
r0 = *(u64 *)(r0 + 0)
out: exit
## direct value
r1 = map_value[one]+8 ll
r0 = *(u64 *)(r1 + 0)
exit
## direct value out of bounds
r1 = map_value[one]+8 ll
r0 = *(u64 *)(r1 + 1)
exit
## direct value offset out of bounds
r1 = map_value[one]+16 ll
r0 = 0
exit
## direct value of an array of four
r1 = map_value[array]+0 ll
r0 = *(u64 *)(r1 + 40)
exit
## direct value of an array of four, second entry
r1 = map_value[array]+48 ll
r0 = *(u64 *)(r1 + 0)
exit
## direct value of a hash
r1 = map_value[hash]+0 ll
r0 = 0
exit
## writes a read-only map
r1 = map_value[readonly]+0 ll
*(u32 *)(r1 + 0) = 1
r0 = 0
exit
## reads a write-only map
r1 = map_value[writeonly]+0 ll
r0 = *(u32 *)(r1 + 0)
exit
## writes a write-only map
r1 = map_value[writeonly]+0 ll
*(u32 *)(r1 + 0) = 1
r0 = 0
exit
## constant from a read-only map bounds a loop
r1 = map_value[readonly]+0 ll
r2 = *(u8 *)(r1 + 3)
r0 = 0
l: r0 += 1
if r0 != r2 goto l
exit
## constant from a read-only map is an index
r1 = map_value[readonly]+0 ll
r2 = *(u8 *)(r1 + 3)
r3 = map_value[one]+0 ll
r3 += r2
r0 = *(u64 *)(r3 + 4)
exit
## sign-extended constant from a read-only map
r1 = map_value[readonly]+0 ll
r2 = *(s32 *)(r1 + 4)
r3 = map_value[one]+8 ll
r3 += r2
r0 = *(u64 *)(r3 + 0)
exit
## atomic on a read-only map
r1 = map_value[readonly]+0 ll
r2 = 1
lock *(u64 *)(r1 + 0) += r2
r0 = 0
exit
## strncmp with a constant string
*(u64 *)(r10 - 8) = 0
r1 = r10
r1 += -8
r2 = 4
r3 = map_value[readonly]+8 ll
call bpf_strncmp
exit
## strncmp with a string without end
*(u64 *)(r10 - 8) = 0
r1 = r10
r1 += -8
r2 = 4
r3 = map_value[readonly]+15 ll
call bpf_strncmp
exit
## strncmp with a writable string
*(u64 *)(r10 - 8) = 0
r1 = r10
r1 += -8
r2 = 4
r3 = map_value[one]+0 ll
call bpf_strncmp
exit
## unknown helper
call 9999
exit
## helper of another type
r2 = 0
call bpf_xdp_adjust_head
exit
## trace_printk without GPL @socket_filter license=Proprietary
*(u64 *)(r10 - 8) = 0
r1 = r10
r1 += -8
r2 = 8
call bpf_trace_printk
r0 = 0
exit
## helper without its arguments
call bpf_map_lookup_elem
r0 = 0
exit
## skb_load_bytes
r2 = 0
r3 = r10
r3 += -16
r4 = 16
call bpf_skb_load_bytes
r0 = *(u64 *)(r10 - 16)
exit
## skb_load_bytes too large
r2 = 0
r3 = r10
r3 += -16
r4 = 17
call bpf_skb_load_bytes
r0 = 0
exit
## skb_load_bytes of zero bytes
r2 = 0
r3 = r10
r3 += -16
r4 = 0
call bpf_skb_load_bytes
r0 = 0
exit
## skb_load_bytes of unknown size
r6 = r1
r4 = *(u32 *)(r1 + 0)
*(u64 *)(r10 - 16) = 0
*(u64 *)(r10 - 8) = 0
if r4 > 16 goto out
if r4 == 0 goto out
r2 = 0
r3 = r10
r3 += -16
call bpf_skb_load_bytes
out: r0 = 0
exit
## skb_load_bytes of size that may be zero
r4 = *(u32 *)(r1 + 0)
*(u64 *)(r10 - 16) = 0
*(u64 *)(r10 - 8) = 0
r4 &= 15
r2 = 0
r3 = r10
r3 += -16
call bpf_skb_load_bytes
r0 = 0
exit
## skb_load_bytes of negative size
r4 = *(u32 *)(r1 + 0)
r4 <<= 32
r4 s>>= 32
if r4 s> 8 goto out
r2 = 0
r3 = map_value[one]+0 ll
call bpf_skb_load_bytes
out: r0 = 0
exit
## skb_load_bytes into the value
r2 = 0
r3 = map_value[one]+0 ll
r4 = 16
call bpf_skb_load_bytes
r0 = 0
exit
## skb_load_bytes into a read-only value
r2 = 0
r3 = map_value[readonly]+0 ll
r4 = 16
call bpf_skb_load_bytes
r0 = 0
exit
## skb_load_bytes destroys a spill
*(u64 *)(r10 - 8) = r1
r2 = 0
r3 = r10
r3 += -8
r4 = 8
call bpf_skb_load_bytes
r1 = *(u64 *)(r10 - 8)
r0 = *(u32 *)(r1 + 0)
exit
## skb_load_bytes with moved context
r1 += 4
r2 = 0
r3 = r10
r3 += -8
r4 = 8
call bpf_skb_load_bytes
r0 = 0
exit
## context with constant moved
r1 += 4
r0 = *(u32 *)(r1 + 0)
exit
## context with variable offset
r2 = *(u32 *)(r1 + 0)
r2 &= 4
r1 += r2
r0 = *(u32 *)(r1 + 0)
exit
## context and stack at one instruction
r2 = r10
r2 += -8
*(u64 *)(r10 - 8) = 0
r3 = *(u32 *)(r1 + 0)
if r3 > 5 goto l
r2 = r1
l: r0 = *(u32 *)(r2 + 0)
exit
## value and stack at one instruction
r2 = r10
r2 += -8
*(u64 *)(r10 - 8) = 0
r3 = *(u32 *)(r1 + 0)
if r3 > 5 goto l
r2 = map_value[one]+0 ll
l: r0 = *(u32 *)(r2 + 0)
exit
## legacy packet load
r6 = r1
r0 = *(u16 *)skb[12]
exit
## legacy packet load without r6
r0 = *(u16 *)skb[12]
exit
## legacy packet load clobbers r1
r6 = r1
r0 = *(u16 *)skb[12]
r0 = *(u32 *)(r1 + 0)
exit
## legacy packet load by register
r6 = r1
r7 = 4
r0 = *(u8 *)skb[r7 + 3]
r0 = r7
exit
## legacy packet load in xdp @xdp
r6 = r1
r0 = *(u16 *)skb[12]
exit
## legacy packet load in cgroup_skb @cgroup_skb cgroup_inet_ingress
r6 = r1
r0 = *(u16 *)skb[12]
r0 = 1
exit
## packet read @xdp
PACKET
if r4 > r3 goto out
r0 = *(u8 *)(r2 + 13)
out: r0 = 0
exit
## packet read one too far @xdp
PACKET
if r4 > r3 goto out
r0 = *(u8 *)(r2 + 14)
out: r0 = 0
exit
## packet read without check @xdp
PACKET
r0 = *(u8 *)(r2 + 0)
exit
## packet read on the wrong side @xdp
PACKET
if r4 > r3 goto out
r0 = 0
exit
out: r0 = *(u8 *)(r2 + 0)
exit
## packet check greater or equal @xdp
PACKET
if r4 >= r3 goto out
r0 = *(u8 *)(r2 + 14)
out: r0 = 0
exit
## packet check end less @xdp
PACKET
if r3 < r4 goto out
r0 = *(u8 *)(r2 + 13)
out: r0 = 0
exit
## packet check end less one too far @xdp
PACKET
if r3 < r4 goto out
r0 = *(u8 *)(r2 + 14)
out: r0 = 0
exit
## packet check end less or equal @xdp
PACKET
if r3 <= r4 goto out
r0 = *(u8 *)(r2 + 14)
out: r0 = 0
exit
## packet check inside, less or equal @xdp
PACKET
if r4 <= r3 goto in
r0 = 0
exit
in: r0 = *(u8 *)(r2 + 13)
exit
## packet check inside, less @xdp
PACKET
if r4 < r3 goto in
r0 = 0
exit
in: r0 = *(u8 *)(r2 + 14)
exit
## packet check inside, end greater @xdp
PACKET
if r3 > r4 goto in
r0 = 0
exit
in: r0 = *(u8 *)(r2 + 14)
exit
## packet check inside, end greater or equal @xdp
PACKET
if r3 >= r4 goto in
r0 = 0
exit
in: r0 = *(u8 *)(r2 + 13)
exit
## packet check inside, end greater or equal, one too far @xdp
PACKET
if r3 >= r4 goto in
r0 = 0
exit
in: r0 = *(u8 *)(r2 + 14)
exit
## packet check equal tells nothing @xdp
PACKET
if r4 == r3 goto in
r0 = 0
exit
in: r0 = *(u8 *)(r2 + 0)
exit
## packet check in 32 bits tells nothing @xdp
PACKET
if w4 > w3 goto out
r0 = *(u8 *)(r2 + 0)
out: r0 = 0
exit
## packet write @xdp
PACKET
if r4 > r3 goto out
*(u32 *)(r2 + 0) = 7
out: r0 = 0
exit
## packet write @sched_cls
SKB
if r4 > r3 goto out
*(u32 *)(r2 + 0) = 7
out: r0 = 0
exit
## packet write in cgroup_skb @cgroup_skb cgroup_inet_ingress
SKB
if r4 > r3 goto out
*(u32 *)(r2 + 0) = 7
out: r0 = 0
exit
## packet read in cgroup_skb @cgroup_skb cgroup_inet_ingress
SKB
if r4 > r3 goto out
r0 = *(u32 *)(r2 + 0)
out: r0 = 0
exit
## packet atomic @xdp
PACKET
if r4 > r3 goto out
r0 = 1
lock *(u32 *)(r2 + 0) += r0
out: r0 = 0
exit
## packet with variable offset @xdp
PACKET
if r4 > r3 goto out
r5 = *(u8 *)(r2 + 0)
r2 += r5
r4 = r2
r4 += 8
if r4 > r3 goto out
r0 = *(u64 *)(r2 + 0)
out: r0 = 0
exit
## packet with variable offset checked before @xdp
PACKET
if r4 > r3 goto out
r5 = *(u8 *)(r2 + 0)
r2 += r5
r0 = *(u8 *)(r2 + 0)
out: r0 = 0
exit
## packet with two variable offsets @xdp
PACKET
if r4 > r3 goto out
r5 = *(u8 *)(r2 + 0)
r2 += r5
r4 = r2
r4 += 8
if r4 > r3 goto out
r5 = *(u8 *)(r2 + 0)
r2 += r5
r0 = *(u8 *)(r2 + 0)
out: r0 = 0
exit
## packet with 16-bit variable offset @xdp
PACKET
if r4 > r3 goto out
r5 = *(u16 *)(r2 + 0)
r2 += r5
r4 = r2
r4 += 8
if r4 > r3 goto out
r0 = *(u64 *)(r2 + 0)
out: r0 = 0
exit
## packet with 15-bit variable offset @xdp
PACKET
if r4 > r3 goto out
r5 = *(u16 *)(r2 + 0)
r5 &= 0x7fff
r2 += r5
r4 = r2
r4 += 8
if r4 > r3 goto out
r0 = *(u64 *)(r2 + 0)
out: r0 = 0
exit
## packet with signed variable offset @xdp
PACKET
if r4 > r3 goto out
r5 = *(s8 *)(r2 + 0)
r2 += r5
r4 = r2
r4 += 8
if r4 > r3 goto out
r0 = *(u64 *)(r2 + 0)
out: r0 = 0
exit
## packet offset scaled @xdp
PACKET
if r4 > r3 goto out
r5 = *(u8 *)(r2 + 0)
r5 &= 15
r5 <<= 2
r2 += r5
r4 = r2
r4 += 20
if r4 > r3 goto out
r0 = *(u32 *)(r2 + 16)
out: r0 = 0
exit
## packet moved back @xdp
PACKET
if r4 > r3 goto out
r4 -= 4
r0 = *(u32 *)(r4 + 0)
out: r0 = 0
exit
## packet before the start @xdp
PACKET
if r4 > r3 goto out
r0 = *(u32 *)(r2 - 4)
out: r0 = 0
exit
## packet end plus constant @xdp
PACKET
r3 += 1
r0 = 0
exit
## packet length is a number @xdp
PACKET
r3 -= r2
r0 = r3
exit
## packet metadata @xdp
r2 = *(u32 *)(r1 + 8)
r3 = *(u32 *)(r1 + 0)
r4 = r2
r4 += 4
if r4 > r3 goto out
r0 = *(u32 *)(r2 + 0)
*(u32 *)(r2 + 0) = 1
out: r0 = 0
exit
## packet metadata against the end @xdp
r2 = *(u32 *)(r1 + 8)
r3 = *(u32 *)(r1 + 4)
r4 = r2
r4 += 4
if r4 > r3 goto out
r0 = *(u32 *)(r2 + 0)
out: r0 = 0
exit
## packet metadata against moved data @xdp
r2 = *(u32 *)(r1 + 8)
r3 = *(u32 *)(r1 + 0)
r3 += 4
r4 = r2
r4 += 4
if r4 > r3 goto out
r0 = *(u32 *)(r2 + 0)
out: r0 = 0
exit
## packet after adjust_head @xdp
PACKET
if r4 > r3 goto out
r6 = r2
r2 = 4
call bpf_xdp_adjust_head
r0 = *(u8 *)(r6 + 0)
exit
out: r0 = 0
exit
## spilled packet pointer after adjust_head @xdp
PACKET
if r4 > r3 goto out
*(u64 *)(r10 - 8) = r2
r2 = 4
call bpf_xdp_adjust_head
r6 = *(u64 *)(r10 - 8)
r0 = *(u8 *)(r6 + 0)
exit
out: r0 = 0
exit
## behind the end stays behind @xdp
PACKET
r7 = 100
if r4 > r3 goto +1
r7 = 0
if r4 > r3 goto out
r2 += r7
r0 = *(u8 *)(r2 + 0)
exit
out: r0 = 0
exit
## behind the end stays behind, mirrored @xdp
PACKET
r7 = 100
if r3 < r4 goto +1
r7 = 0
if r3 < r4 goto out
r2 += r7
r0 = *(u8 *)(r2 + 0)
exit
out: r0 = 0
exit
## behind the end is also at the end @xdp
PACKET
r7 = 100
if r4 > r3 goto +1
r7 = 0
if r4 >= r3 goto out
r2 += r7
r0 = *(u8 *)(r2 + 0)
exit
out: r0 = 0
exit
## at the end stays at the end @xdp
PACKET
r7 = 100
if r4 >= r3 goto +1
r7 = 0
if r3 <= r4 goto out
r2 += r7
r0 = *(u8 *)(r2 + 0)
exit
out: r0 = 0
exit
## at the end need not be behind @xdp
PACKET
r7 = 100
if r4 >= r3 goto +1
r7 = 0
if r4 > r3 goto out
r2 += r7
r0 = *(u8 *)(r2 + 0)
exit
out: r0 = 0
exit
## behind the end by another way round @xdp
PACKET
r7 = 100
if r4 > r3 goto +1
r7 = 0
if r3 < r4 goto out
r2 += r7
r0 = *(u8 *)(r2 + 0)
exit
out: r0 = 0
exit
## behind the end and further up @xdp
PACKET
r7 = 100
if r4 > r3 goto +1
r7 = 0
r4 += 8
if r4 > r3 goto out
r2 += r7
r0 = *(u8 *)(r2 + 0)
exit
out: r0 = 0
exit
## behind the end, then moved down @xdp
PACKET
r7 = 100
if r4 > r3 goto +1
r7 = 0
r4 -= 12
if r4 > r3 goto out
r2 += r7
r0 = *(u8 *)(r2 + 0)
exit
out: r0 = 0
exit
## behind the end on one path only @xdp
PACKET
r5 = *(u32 *)(r1 + 12)
r7 = 0
if r5 != 7 goto join
if r4 <= r3 goto out
join:
r8 = 1
if r4 <= r3 goto read
out: r0 = 0
exit
read: r0 = *(u8 *)(r2 + 14)
exit
## packet read again after adjust_head @xdp
r6 = r1
r2 = 4
call bpf_xdp_adjust_head
r1 = r6
PACKET
if r4 > r3 goto out
r0 = *(u8 *)(r2 + 0)
out: r0 = 0
exit
## packet as map key @xdp
PACKET
if r4 > r3 goto out
r1 = map[hash] ll
call bpf_map_lookup_elem
out: r0 = 0
exit
## packet as map key too long @xdp
PACKET
r4 = r2
r4 += 7
if r4 > r3 goto out
r1 = map[hash] ll
call bpf_map_lookup_elem
out: r0 = 0
exit
## packet to a helper that may not have it @xdp
PACKET
if r4 > r3 goto out
r3 = r2
r2 = 0
r4 = 8
call bpf_xdp_load_bytes
out: r0 = 0
exit
## csum_diff over the packet @xdp
PACKET
if r4 > r3 goto out
r1 = 0
r3 = r2
r2 = 0
r4 = 8
r5 = 0
call bpf_csum_diff
out: r0 = 0
exit
## csum_diff with null and a size @xdp
r1 = 0
r2 = 4
r3 = 0
r4 = 0
r5 = 0
call bpf_csum_diff
r0 = 0
exit
## tail call
r2 = map[progs] ll
r3 = 1
call bpf_tail_call
r0 = 0
exit
## r0 after tail call
r2 = map[progs] ll
r3 = 1
r0 = 0
call bpf_tail_call
exit
## tail call with a hash
r2 = map[hash] ll
r3 = 1
call bpf_tail_call
r0 = 0
exit
## tail call with another context
r1 = r10
r2 = map[progs] ll
r3 = 1
call bpf_tail_call
r0 = 0
exit
## tail call forgets packets @xdp
PACKET
if r4 > r3 goto out
r6 = r2
r2 = map[progs] ll
r3 = 1
call bpf_tail_call
r0 = *(u8 *)(r6 + 0)
exit
out: r0 = 0
exit
## tail call with a pointer as index
r2 = map[progs] ll
r3 = r10
call bpf_tail_call
r0 = 0
exit
## tail call with two maps
r4 = *(u32 *)(r1 + 0)
r2 = map[progs] ll
if r4 > 5 goto l
r2 = map[others] ll
l: r3 = 1
call bpf_tail_call
r0 = 0
exit
## subprogram
r1 = 5
call f
exit
f: r0 = r1
r0 += 1
exit
## subprogram reads r6 of its caller
r6 = 5
call f
exit
f: r0 = r6
exit
## caller keeps r6
r6 = 5
call f
r0 = r6
exit
f: r0 = 1
r6 = 7
exit
## caller loses r1
call f
r0 = r1
exit
f: r0 = 1
exit
## subprogram without result
call f
exit
f: r1 = 1
exit
## subprogram writes the caller's stack
r1 = r10
r1 += -8
call f
r0 = *(u64 *)(r10 - 8)
exit
f: *(u64 *)(r1 + 0) = 7
r0 = 0
exit
## subprogram writes above the caller's stack
r1 = r10
call f
r0 = 0
exit
f: *(u64 *)(r1 + 0) = 7
r0 = 0
exit
## subprogram reads the caller's stack through its own r10
*(u64 *)(r10 - 8) = 7
call f
exit
f: r0 = *(u64 *)(r10 + 8)
exit
## subprogram returns its stack
call f
r0 = 0
exit
f: r0 = r10
exit
## subprogram spills its stack pointer into the caller
r1 = r10
r1 += -8
call f
r0 = 0
exit
f: *(u64 *)(r1 + 0) = r10
r0 = 0
exit
## subprogram returns a map value
call f
if r0 == 0 goto out
r0 = *(u64 *)(r0 + 0)
out: exit
f: KEY8
r1 = map[hash] ll
call bpf_map_lookup_elem
exit
## subprogram checks the caller's pointer
KEY8
r1 = map[hash] ll
call bpf_map_lookup_elem
*(u64 *)(r10 - 32) = r0
r1 = r0
call f
if r0 == 0 goto out
r1 = *(u64 *)(r10 - 32)
r0 = *(u64 *)(r1 + 0)
exit
out: r0 = 0
exit
f: r0 = 0
if r1 == 0 goto o
r0 = 1
o: exit
## recursion
call f
exit
f: call f
exit
## mutual recursion
call f
exit
f: call g
exit
g: call f
exit
## eight frames
call a
exit
a: call b
exit
b: call c
exit
c: call d
exit
d: call e
exit
e: call f
exit
f: call g
exit
g: r0 = 0
exit
## nine frames
call a
exit
a: call b
exit
b: call c
exit
c: call d
exit
d: call e
exit
e: call f
exit
f: call g
exit
g: call h
exit
h: r0 = 0
exit
## combined stack too large
*(u64 *)(r10 - 256) = 1
call f
exit
f: *(u64 *)(r10 - 264) = 1
r0 = 0
exit
## combined stack just fits
*(u64 *)(r10 - 256) = 1
call f
exit
f: *(u64 *)(r10 - 256) = 1
r0 = 0
exit
## tail call below a deep frame
*(u64 *)(r10 - 256) = 1
call f
exit
f: r0 = 0
r2 = map[progs] ll
r3 = 0
call bpf_tail_call
r0 = 0
exit
## tail call below a shallow frame
*(u64 *)(r10 - 240) = 1
call f
exit
f: r2 = map[progs] ll
r3 = 0
call bpf_tail_call
r0 = 0
exit
## packet pointers are lost over a subprogram that moves the packet @xdp
PACKET
if r4 > r3 goto out
r6 = r2
call f
r0 = *(u8 *)(r6 + 0)
exit
out: r0 = 0
exit
f: r2 = 0
call bpf_xdp_adjust_head
r0 = 0
exit
## jump into another function
r0 = 0
if r0 == 0 goto f
call f
exit
f: r0 = 0
exit
## may_goto loop
r0 = 0
l: may_goto out
r0 += 1
goto l
out: exit
## may_goto loop with an unchecked index
r0 = 0
r2 = map_value[one]+0 ll
l: may_goto out
r3 = r2
r3 += r0
r4 = *(u8 *)(r3 + 0)
r0 += 1
goto l
out: r0 = 0
exit
## may_goto loop with a checked index
r0 = 0
r2 = map_value[one]+0 ll
l: may_goto out
if r0 > 15 goto out
r3 = r2
r3 += r0
r4 = *(u8 *)(r3 + 0)
r0 += 1
goto l
out: r0 = 0
exit
## cgroup_skb returns 1 @cgroup_skb cgroup_inet_ingress
r0 = 1
exit
## cgroup_skb returns 2 @cgroup_skb cgroup_inet_ingress
r0 = 2
exit
## cgroup_skb egress returns 3 @cgroup_skb cgroup_inet_egress
r0 = 3
exit
## cgroup_skb egress returns 4 @cgroup_skb cgroup_inet_egress
r0 = 4
exit
## cgroup_skb returns an unknown number @cgroup_skb cgroup_inet_ingress
r0 = *(u32 *)(r1 + 0)
exit
## cgroup_skb returns a masked number @cgroup_skb cgroup_inet_ingress
r0 = *(u32 *)(r1 + 0)
r0 &= 1
exit
## xdp returns a large number @xdp
r0 = 0x123456789 ll
exit
## xdp returns a pointer @xdp
r0 = r1
exit
## socket_filter returns a pointer
r0 = r1
exit
## compares pointers
r0 = 0
if r1 > r10 goto l
r0 = 1
l: exit
## compares a pointer with a number
r0 = 0
if r1 > 5 goto l
r0 = 1
l: exit
## context is never null
if r1 == 0 goto l
r0 = 1
exit
l: r0 = *(u64 *)(r10 - 600)
exit
## dead branch by range
r2 = *(u8 *)(r1 + 0)
r0 = 0
if r2 > 255 goto l
exit
l: r0 = *(u64 *)(r10 - 600)
exit
## dead branch by known bits
r2 = *(u32 *)(r1 + 0)
r2 |= 1
r0 = 0
if r2 & 1 goto l
r0 = *(u64 *)(r10 - 600)
l: exit
## dead branch by 32-bit range
r2 = *(u32 *)(r1 + 0)
w2 >>= 28
r0 = 0
if w2 s< 0 goto l
if w2 > 15 goto l
exit
l: r0 = *(u64 *)(r10 - 600)
exit
## equality gives a constant
r2 = *(u32 *)(r1 + 0)
r3 = map_value[one]+0 ll
if r2 != 8 goto l
r3 += r2
r0 = *(u64 *)(r3 + 0)
exit
l: r0 = 0
exit
## inequality at the edge
r2 = *(u32 *)(r1 + 0)
r3 = map_value[one]+0 ll
if r2 > 9 goto l
if r2 == 9 goto l
r3 += r2
r0 = *(u64 *)(r3 + 0)
exit
l: r0 = 0
exit
## sign extension move
r2 = *(u32 *)(r1 + 0)
r2 = (s8)r2
r3 = map_value[one]+0 ll
if r2 s< 0 goto l
if r2 s> 8 goto l
r3 += r2
r0 = *(u64 *)(r3 + 0)
exit
l: r0 = 0
exit
## modulo bounds an index
r2 = *(u32 *)(r1 + 0)
r2 %= 9
r3 = map_value[one]+0 ll
r3 += r2
r0 = *(u64 *)(r3 + 0)
exit
## division bounds an index
r2 = *(u8 *)(r1 + 0)
r2 /= 32
r3 = map_value[one]+0 ll
r3 += r2
r0 = *(u64 *)(r3 + 0)
exit
## byte swap bounds an index
r2 = *(u32 *)(r1 + 0)
r2 = be16 r2
r2 >>= 13
r3 = map_value[one]+0 ll
r3 += r2
r0 = *(u64 *)(r3 + 0)
exit
## load_acquire
*(u64 *)(r10 - 8) = 1
r0 = load_acquire((u64 *)(r10 - 8))
exit
## store_release
r0 = 1
store_release((u64 *)(r10 - 8), r0)
r0 = *(u64 *)(r10 - 8)
exit
## load_acquire from the context
w0 = load_acquire((u32 *)(r1 + 0))
exit
## load_acquire from the packet @xdp
PACKET
if r4 > r3 goto out
w0 = load_acquire((u32 *)(r2 + 0))
out: r0 = 0
exit
## stores a pointer in a map value
r2 = map_value[one]+0 ll
*(u64 *)(r2 + 0) = r1
r0 = 0
exit
## xchg with a pointer on the stack
*(u64 *)(r10 - 8) = r1
r2 = 5
r2 = xchg_64(r10 - 8, r2)
r0 = *(u32 *)(r2 + 0)
exit
## redirect_map with a hash @xdp
r1 = map[hash] ll
r2 = 0
r3 = 0
call bpf_redirect_map
exit
## redirect_map @xdp
r1 = map[devices] ll
r2 = 0
r3 = 0
call bpf_redirect_map
exit
## gotol
r0 = 0
gotol l
r0 = 1
l: exit
## pruning must not forget bounds
r6 = map_value[one]+0 ll
r2 = *(u32 *)(r1 + 0)
r3 = *(u32 *)(r1 + 4)
if r3 == 0 goto a
r2 &= 7
a: if r3 == 1 goto b
r3 = 0
b: if r3 == 2 goto c
r3 = 0
c: if r3 == 3 goto d
r3 = 0
d: r6 += r2
r0 = *(u64 *)(r6 + 0)
exit
## pruning must not forget stack contents
r2 = *(u32 *)(r1 + 0)
r3 = *(u32 *)(r1 + 4)
r4 = 0
*(u64 *)(r10 - 8) = r4
if r3 == 0 goto a
*(u64 *)(r10 - 8) = r2
a: if r3 == 1 goto b
r3 = 0
b: if r3 == 2 goto c
r3 = 0
c: if r3 == 3 goto d
r3 = 0
d: r2 = *(u64 *)(r10 - 8)
r6 = map_value[one]+0 ll
r6 += r2
r0 = *(u64 *)(r6 + 0)
exit
`;

const MACROS: Readonly<Record<string, string>> = {
  KEY8: '*(u64 *)(r10 - 8) = 0\nr2 = r10\nr2 += -8',
  KEY4: '*(u32 *)(r10 - 12) = 0\nr2 = r10\nr2 += -12',
  PACKET: 'r2 = *(u32 *)(r1 + 0)\nr3 = *(u32 *)(r1 + 4)\nr4 = r2\nr4 += 14',
  SKB: 'r2 = *(u32 *)(r1 + 76)\nr3 = *(u32 *)(r1 + 80)\nr4 = r2\nr4 += 14',
};

export interface Case {
  readonly name: string;
  readonly type: 'socket_filter' | 'xdp' | 'sched_cls' | 'cgroup_skb';
  readonly attachType: string | undefined;
  readonly license: string;
  readonly text: string;
}

export const CASES: readonly Case[] = TEXT.trim()
  .split(/^## /m)
  .slice(1)
  .map(block => {
    const [title = '', ...lines] = block.split('\n');
    const [name = '', context = ''] = title.split('@');
    const words = context.split(' ').filter(word => word !== '');
    const license = words.find(word => word.startsWith('license='))?.slice('license='.length) ?? 'GPL';
    const [type = 'socket_filter', attachType] = words.filter(word => !word.includes('='));
    const text = lines.join('\n').replace(/\b(KEY8|KEY4|PACKET|SKB)\b/g, macro => MACROS[macro]!);
    return {
      name: context === '' ? name.trim() : `${name.trim()} (${type})`,
      type: type as Case['type'],
      attachType,
      license,
      text,
    };
  });
