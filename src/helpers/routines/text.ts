/**
 * Text functions of the kernel (bpf_strcmp and the like). They take any address: what lies outside the arena is -ERANGE,
 * as what is no kernel memory is there. Nothing is read behind the arena's end (-EFAULT), and of no text more than
 * 65,536 bytes (-E2BIG). Bytes are unsigned, as chars are in the kernel. Results are 32 bits wide.
 */
import type { Routine } from '../../isa/routine.ts';
import { RunContext, RuntimeState } from '../../memory/layout.ts';
import { Errno } from './shared.ts';

/** XATTR_SIZE_MAX */
const MAX_TEXT = 65536;

/** text_end(address): first address that may not be read, at most 65,536 bytes on; 0 for an address outside the arena. */
const end: Routine = {
  name: 'text_end',
  text: `
  r2 = run_context
  r2 = *(u64 *)(r2 + ${RunContext.runtime})
  r3 = *(u64 *)(r2 + ${RuntimeState.arenaStart})
  r4 = *(u64 *)(r2 + ${RuntimeState.arenaEnd})
  r0 = 0
  if r1 < r3 goto done
  if r1 >= r4 goto done
  r0 = r1
  r0 += ${MAX_TEXT}
  if r0 <= r4 goto done
  r0 = r4
done:
  exit
`,
};

/** text_stop(start, end): the error for a text that reached its end, at `end`. */
const stop: Routine = {
  name: 'text_stop',
  text: `
  r2 -= r1
  w0 = ${Errno.E2BIG}
  if r2 >= ${MAX_TEXT} goto done
  w0 = ${Errno.EFAULT}
done:
  exit
`,
};

/** Text: lowers the Latin-1 letter in `r`, a zero-extended byte. */
const lower = (r: string, label: string): string => `
  if ${r} < 65 goto ${label}
  if ${r} <= 90 goto ${label}_upper
  if ${r} < 192 goto ${label}
  if ${r} == 215 goto ${label}
  if ${r} > 222 goto ${label}
${label}_upper:
  ${r} += 32
${label}:`;

/** The texts at r1 and r2: where they start to r6 and r7, behind their ends to r8 and r9. */
const TWO_TEXTS = `
  r6 = r1
  r7 = r2
  call routine text_end
  if r0 == 0 goto outside
  r8 = r0
  r1 = r7
  call routine text_end
  if r0 == 0 goto outside
  r9 = r0`;

/** Where a text lies outside the arena. */
const OUTSIDE = `outside:
  w0 = ${Errno.ERANGE}
  exit`;

function compare(name: string, ignoreCase: boolean): Routine {
  return {
    name,
    text: `${TWO_TEXTS}
  r5 = r6
next:
  if r6 >= r8 goto first_ends
  if r7 >= r9 goto fault
  r1 = *(u8 *)(r6 + 0)
  r2 = *(u8 *)(r7 + 0)
${ignoreCase ? `${lower('r1', 'first')}${lower('r2', 'second')}` : ''}
  if r1 < r2 goto less
  if r1 > r2 goto greater
  r6 += 1
  r7 += 1
  if r1 != 0 goto next
  r0 = 0
  exit
less:
  w0 = -1
  exit
greater:
  r0 = 1
  exit
first_ends:
  r1 = r5
  r2 = r8
  call routine text_stop
  exit
fault:
  w0 = ${Errno.EFAULT}
  exit
${OUTSIDE}
`,
  };
}

/** text_find(address, byte as u64, count, last): index of the first (or last) such byte among the text's first `count`, or -ENOENT. */
const find: Routine = {
  name: 'text_find',
  text: `
  r6 = r1
  r7 = r2
  r8 = r3
  *(u64 *)(r10 - 8) = r4
  call routine text_end
  if r0 == 0 goto outside
  r9 = r0
  w0 = ${Errno.ENOENT}
  r1 = r6
next:
  r2 = r1
  r2 -= r6
  if r2 >= r8 goto counted
  if r1 >= r9 goto ends
  r3 = *(u8 *)(r1 + 0)
  if r3 != r7 goto other
  w0 = w2
  r4 = *(u64 *)(r10 - 8)
  if r4 == 0 goto done
other:
  r1 += 1
  if r3 != 0 goto next
done:
  exit
counted:
  if r2 >= ${MAX_TEXT} goto too_long
  exit
ends:
  r1 = r6
  r2 = r9
  call routine text_stop
  exit
too_long:
  w0 = ${Errno.E2BIG}
  exit
${OUTSIDE}
`,
};

/** A search for one byte, in r2. */
const search = (name: string, setup: string): Routine => ({
  name,
  text: `
${setup}
  call routine text_find
  exit
`,
});

/** strchrnul: where the byte is, or the text's end. */
const findOrEnd: Routine = {
  name: 'kfunc_bpf_strchrnul',
  text: `
  r6 = r1
  r7 = r2
  r7 &= 255
  call routine text_end
  if r0 == 0 goto outside
  r9 = r0
  r1 = r6
next:
  if r1 >= r9 goto ends
  r3 = *(u8 *)(r1 + 0)
  if r3 == 0 goto found
  if r3 == r7 goto found
  r1 += 1
  goto next
found:
  r0 = r1
  r0 -= r6
  exit
ends:
  r1 = r6
  r2 = r9
  call routine text_stop
  exit
${OUTSIDE}
`,
};

/** strnlen(address, count); strlen is the same with the longest count. */
const length: Routine = {
  name: 'kfunc_bpf_strnlen',
  text: `
  r6 = r1
  r8 = r2
  call routine text_end
  if r0 == 0 goto outside
  r9 = r0
  r0 = 0
  r1 = r6
next:
  if r0 >= r8 goto counted
  if r1 >= r9 goto ends
  r3 = *(u8 *)(r1 + 0)
  if r3 == 0 goto done
  r1 += 1
  r0 += 1
  goto next
counted:
  if r0 >= ${MAX_TEXT} goto too_long
done:
  exit
ends:
  r1 = r6
  r2 = r9
  call routine text_stop
  exit
too_long:
  w0 = ${Errno.E2BIG}
  exit
${OUTSIDE}
`,
};

/** strspn and strcspn: bytes at the text's start that are (not) among those of the second. */
function span(name: string, among: boolean): Routine {
  return {
    name,
    text: `${TWO_TEXTS}
  r1 = r6
next:
  if r1 >= r8 goto ends
  r2 = *(u8 *)(r1 + 0)
  if r2 == 0 goto found
  r4 = r7
set:
  if r4 >= r9 goto set_ends
  r3 = *(u8 *)(r4 + 0)
  if r3 == r2 goto member
  r4 += 1
  if r3 != 0 goto set
  ${among ? 'goto found' : 'goto on'}
member:
  ${among ? 'goto on' : 'goto found'}
on:
  r1 += 1
  goto next
found:
  r0 = r1
  r0 -= r6
  exit
set_ends:
  r6 = r7
  r8 = r9
ends:
  r1 = r6
  r2 = r8
  call routine text_stop
  exit
${OUTSIDE}
`,
  };
}

/** strnstr(text, part, count): where the part is within the text's first `count` bytes. */
const part: Routine = {
  name: 'kfunc_bpf_strnstr',
  text: `
  r6 = r1
  r7 = r2
  r8 = r3
  call routine text_end
  if r0 == 0 goto outside
  *(u64 *)(r10 - 8) = r0
  r1 = r7
  call routine text_end
  if r0 == 0 goto outside
  *(u64 *)(r10 - 16) = r0
  r9 = 0                                          ; i: where the part might begin
start:
  if r9 >= ${MAX_TEXT} goto too_long
  r5 = 0                                          ; j: bytes that are equal
next:
  r1 = r9
  r1 += r5
  if r1 > r8 goto absent
  if r5 >= ${MAX_TEXT} goto too_long
  r2 = r7
  r2 += r5
  r3 = *(u64 *)(r10 - 16)
  if r2 >= r3 goto fault
  r2 = *(u8 *)(r2 + 0)
  if r2 == 0 goto found
  if r1 == r8 goto absent
  r1 += r6
  r4 = *(u64 *)(r10 - 8)
  if r1 >= r4 goto behind
  r3 = *(u8 *)(r1 + 0)
  if r3 == 0 goto absent
  if r3 != r2 goto differs
  r5 += 1
  goto next
differs:
  r9 += 1
  goto start
found:
  r0 = r9
  exit
absent:
  w0 = ${Errno.ENOENT}
  exit
behind:
  r1 = r6
  r2 = r4
  call routine text_stop
  exit
too_long:
  w0 = ${Errno.E2BIG}
  exit
fault:
  w0 = ${Errno.EFAULT}
  exit
${OUTSIDE}
`,
};

const LONGEST = `${MAX_TEXT}`;

export const TEXT_ROUTINES: readonly Routine[] = [
  end,
  stop,
  compare('kfunc_bpf_strcmp', false),
  compare('kfunc_bpf_strcasecmp', true),
  find,
  search('kfunc_bpf_strchr', `  r2 &= 255\n  r3 = ${LONGEST}\n  r4 = 0`),
  search('kfunc_bpf_strnchr', `  r4 = r3\n  r3 = r2\n  r2 = r4\n  r2 &= 255\n  r4 = 0`),
  // Its byte is an int in C: one outside 0 to 255 is nowhere.
  search('kfunc_bpf_strrchr', `  w2 = w2\n  r3 = ${LONGEST}\n  r4 = 1`),
  findOrEnd,
  length,
  { name: 'kfunc_bpf_strlen', text: `\n  r2 = ${LONGEST}\n  call routine kfunc_bpf_strnlen\n  exit\n` },
  span('kfunc_bpf_strspn', true),
  span('kfunc_bpf_strcspn', false),
  part,
  { name: 'kfunc_bpf_strstr', text: `\n  r3 = ${LONGEST}\n  call routine kfunc_bpf_strnstr\n  exit\n` },
];
