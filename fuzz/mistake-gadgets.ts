/**
 * Gadgets that are wrong in one way every so often, whatever the program's risk: each is what one planted mistake of a verifier would let
 * pass (see the table in README.md). In programs that take many risks something else is mostly refused first.
 */
import { movePacket, restore, type Writer } from './object-gadgets.ts';

const SIZES = [1, 2, 4, 8] as const;

/** How often the gadget itself is wrong, in percent. */
const WRONG = 40;

const lookup = (w: Writer, key: string): void => w.emit(key, 'r1 = map[array] ll', 'r2 = r10', 'r2 += -92', 'call 1');

/** Two pointers that may be null, of which only one is compared, or both. */
function twoNullable(w: Writer): void {
  const { random } = w;
  const out = w.label();
  lookup(w, `*(u32 *)(r10 - 92) = ${random.below(5)}`);
  w.emit('*(u64 *)(r10 - 168) = r0');
  lookup(w, `*(u32 *)(r10 - 92) = ${random.pick([0, 3, 4, 5])}`);
  w.emit('r5 = r0');
  for (let r = 0; r <= 3; r++) w.emit(`r${r} = ${w.constant()}`);
  w.emit('r4 = *(u64 *)(r10 - 168)');
  const used = random.pick([4, 5]);
  w.emit(`if r${random.chance(WRONG) ? 9 - used : used} == 0 goto ${out}`);
  w.touch(used, random.below(40), random.pick(SIZES));
  w.emit(`${out}:`, 'r4 = 0', 'r5 = 0');
}

/** The start of the packet by way of a dynptr, before and after the packet moves. */
function staleSlice(w: Writer): void {
  const { random } = w;
  const out = w.label();
  w.emit('r1 = r6', 'r2 = 0', 'r3 = r10', 'r3 += -192');
  w.emit(`call kfunc[0 bpf_dynptr_from_${w.type === 'xdp' ? 'xdp' : 'skb'}]`);
  w.emit('r1 = r10', 'r1 += -192', 'r2 = 0', 'r3 = r10', 'r3 += -64', 'r4 = 8', 'call kfunc[0 bpf_dynptr_slice]');
  w.emit('r5 = r0');
  for (let r = 0; r <= 3; r++) w.emit(`r${r} = ${w.constant()}`);
  w.emit(`if r5 == 0 goto ${out}`);
  const wrong = random.chance(WRONG);
  if (!wrong) w.emit(`r${random.below(4)} = *(u8 *)(r5 + ${random.below(8)})`);
  w.emit('*(u64 *)(r10 - 168) = r5');
  movePacket(w);
  w.emit('r5 = *(u64 *)(r10 - 168)');
  if (wrong) w.emit(`r${random.below(4)} = *(u8 *)(r5 + ${random.below(8)})`);
  w.emit(`${out}:`, 'r4 = 0', 'r5 = 0');
}

/** A number that is the copy of another one only on the path that is walked first. */
function lateLink(w: Writer): void {
  const { random } = w;
  const [join, out] = [w.label(), w.label()];
  const at = (): number => random.below(5) * 8;
  w.emit(`r4 = *(u64 *)(r9 + ${at()})`, `r1 = *(u64 *)(r9 + ${at()})`, `r2 = *(u64 *)(r9 + ${at()})`);
  if (!random.chance(WRONG)) w.emit('r1 = r4');
  w.emit(`if r2 ${random.pick(['==', '>', 's<'])} ${w.constant()} goto ${join}`, 'r1 = r4');
  for (let i = random.below(4); i > 0; i--) w.emit(`r3 = ${w.constant()}`);
  w.emit(`${join}:`);
  // States are stored only after some instructions and jumps.
  for (let i = random.below(10); i > 0; i--) w.emit(`r3 = ${w.constant()}`);
  if (random.chance(50)) w.emit(`if r3 s> ${w.constant()} goto ${out}`);
  w.emit(`if r1 > 31 goto ${out}`, 'r5 = r9', 'r5 += r4');
  w.touch(5, random.below(9), random.pick(SIZES));
  w.emit(`${out}:`);
  for (let r = 0; r <= 3; r++) w.unknown(r);
  w.emit('r4 = 0', 'r5 = 0');
}

/** A 32-bit sum that may wrap, compared; the number it was made of is used, or the other way round. */
function wrappingSum(w: Writer): void {
  const { random } = w;
  const out = w.label();
  const [from, to] = [random.below(4), random.pick([4, 5])];
  const step = random.pick([1, 4, 8, 24, -1, -8]);
  w.emit(`r${from} = *(u32 *)(r9 + ${random.below(5) * 8})`, `r${to} = r${from}`, `w${to} += ${step}`);
  const [compared, used] = random.chance(50) ? [from, to] : [to, from];
  w.emit(`if ${random.chance(70) ? 'r' : 'w'}${compared} > 31 goto ${out}`);
  if (random.chance(50)) w.emit(`if r${compared} < ${Math.abs(step)} goto ${out}`);
  w.emit(`*(u64 *)(r10 - 176) = r${used}`, 'r4 = *(u64 *)(r10 - 176)');
  if (random.chance(50)) w.emit(`if r4 > 40 goto ${out}`);
  w.emit('r5 = r9', 'r5 += r4', `r${random.below(4)} = *(u8 *)(r5 + 0)`);
  w.emit(`${out}:`, 'r4 = 0', 'r5 = 0');
}

/** The last bytes of a map value, or one more. */
function lastBytes(w: Writer): void {
  const { random } = w;
  const size = random.pick(SIZES);
  const out = w.label();
  if (random.chance(50)) {
    w.emit(`r${random.below(4)} = *(u${8 * size} *)(r9 + ${48 - size + (random.chance(WRONG) ? 1 : 0)})`);
    return;
  }
  w.emit(`r4 = *(u8 *)(r9 + ${random.below(40)})`, `if r4 > ${48 - size + (random.chance(WRONG) ? 1 : 0)} goto ${out}`);
  w.emit('r5 = r9', 'r5 += r4', `r${random.below(4)} = *(u${8 * size} *)(r5 + 0)`, `${out}:`, 'r4 = 0', 'r5 = 0');
}

/** A helper writes over numbers on the stack, of which one is then an index: what it was before says nothing any more. */
function helperWrites(w: Writer): void {
  const { random } = w;
  const out = w.label();
  const at = random.pick([48, 56, 64]);
  w.emit(`*(u64 *)(r10 - ${at}) = ${random.below(8)}`);
  w.emit('r1 = r6', `r2 = ${random.pick([0, 4, 10])}`, 'r3 = r10', `r3 += -${at}`, `r4 = ${random.pick([1, 2, 4])}`);
  w.emit(`call ${w.type === 'xdp' ? 189 : 26}`);
  restore(w);
  w.emit(`r4 = *(u64 *)(r10 - ${at})`);
  if (!random.chance(WRONG)) w.emit(`if r4 > 31 goto ${out}`);
  w.emit('r5 = r9', 'r5 += r4', `r${random.below(4)} = *(u8 *)(r5 + 8)`, `${out}:`, 'r4 = 0', 'r5 = 0');
}

/** A record of the ring buffer, used before or after it is given back. */
function releasedRecord(w: Writer): void {
  const { random } = w;
  const out = w.label();
  const copy = random.chance(50);
  w.emit('r1 = map[ring] ll', 'r2 = 16', 'r3 = 0', 'call 131', `if r0 == 0 goto ${out}`);
  w.emit('*(u64 *)(r0 + 0) = 0', '*(u64 *)(r0 + 8) = 0', '*(u64 *)(r10 - 168) = r0', 'r1 = r0', 'r2 = 0');
  const use = (): void => w.emit('r5 = *(u64 *)(r10 - 168)', `r3 = *(u8 *)(r5 + ${random.below(16)})`);
  const wrong = random.chance(WRONG);
  if (!wrong) use();
  w.emit(`call ${random.pick([132, 133])}`);
  if (wrong) use();
  else if (copy) w.emit('r5 = *(u64 *)(r10 - 168)');
  w.emit(`${out}:`);
  restore(w);
}

/** Two values with locks; one is taken, and given back by way of its own value or of the other. */
function twoLocks(w: Writer): void {
  const { random } = w;
  const out = w.label();
  for (const slot of [168, 176]) {
    w.emit(`*(u32 *)(r10 - 92) = ${random.below(2)}`, 'r1 = map[locked_array] ll', 'r2 = r10', 'r2 += -92', 'call 1');
    w.emit(`if r0 == 0 goto ${out}`, `*(u64 *)(r10 - ${slot}) = r0`);
  }
  const taken = random.pick([168, 176]);
  const wrong = random.chance(WRONG) ? random.below(2) : undefined;
  w.emit(`r1 = *(u64 *)(r10 - ${taken})`, 'r1 += 4', 'call 93');
  if (wrong === 0) w.emit('call 7');
  w.emit(`r1 = *(u64 *)(r10 - ${wrong === 1 ? 168 + 176 - taken : taken})`, 'r1 += 4', 'call 94', `${out}:`);
  restore(w);
}

/** A call of a helper, a kernel function or a function: an argument's register is used after it, or only what survives. */
function survivor(w: Writer): void {
  const { random } = w;
  const register = 1 + random.below(5);
  for (let r = 1; r <= 5; r++) w.emit(`r${r} = 0`);
  const name = `s${w.label()}`;
  switch (random.below(3)) {
    case 0:
      w.emit(`call ${random.pick([5, 8])}`);
      break;
    case 1:
      w.emit(`call ${name}`);
      w.addFunction(`${name}:`, 'r0 = 0', 'exit');
      break;
    default:
      w.emit('call kfunc[0 bpf_rcu_read_lock]');
      w.emit(...[1, 2, 3, 4, 5].filter(r => r !== register).map(r => `r${r} = 0`));
      w.emit('call kfunc[0 bpf_rcu_read_unlock]');
  }
  w.emit('r0 = 0');
  if (random.chance(WRONG)) w.emit(`r0 = r${register}`);
  restore(w);
}

/** A pointer at the packet's end, or behind it: the two are not the same. */
function pastEnd(w: Writer): void {
  const { random } = w;
  const [at, out] = [w.label(), w.label()];
  const [first, second] = random.pick([
    ['>=', '>'],
    ['>=', '<='],
    ['>', '>='],
    ['>', '>'],
    ['>=', '>='],
  ] as const);
  w.emit('r4 = r7', `r4 += ${random.pick([14, 15, 20, 34])}`, `if r4 ${first} r8 goto ${at}`, `goto ${out}`, `${at}:`);
  w.emit(`if r4 ${second} r8 goto ${out}`);
  // Wrong only where this can be reached.
  if (random.chance(70)) w.emit('r5 = r9', `r5 = *(u8 *)(r5 + ${random.chance(WRONG) ? 48 : 47})`);
  w.emit(`${out}:`, 'r4 = 0', 'r5 = 0');
}

/** A loop that begins something new each time round, and so has no end. */
export function endless(w: Writer): void {
  const again = w.label();
  w.emit(`${again}:`);
  if (w.random.chance(50)) {
    const name = `cb${again}`;
    w.emit('r1 = 20', `r2 = func[${name}] ll`, 'r3 = 0', 'r4 = 0', 'call 181');
    w.addFunction(`${name}:`, 'r0 = 0', 'exit');
  } else {
    const call = (kfunc: string): void => w.emit('r1 = r10', 'r1 += -120', `call kfunc[0 bpf_iter_num_${kfunc}]`);
    w.emit('r1 = r10', 'r1 += -120', 'r2 = 0', 'r3 = 10', 'call kfunc[0 bpf_iter_num_new]');
    call('next');
    call('destroy');
  }
  restore(w);
  w.emit(`if r9 != 0 goto ${again}`);
}

/** Takes something that must be given back, and comes to the program's end with it or without. */
export function ending(w: Writer): void {
  const { random } = w;
  const out = w.label();
  const keeps = random.chance(WRONG);
  switch (random.below(3)) {
    case 0:
      w.emit('*(u32 *)(r10 - 92) = 0', 'r1 = map[locked_array] ll', 'r2 = r10', 'r2 += -92', 'call 1');
      w.emit(`if r0 == 0 goto ${out}`, '*(u64 *)(r10 - 168) = r0', 'r1 = r0', 'r1 += 4', 'call 93');
      w.emit('r1 = *(u64 *)(r10 - 168)', 'r1 += 4', ...(keeps ? [] : ['call 94']));
      break;
    case 1:
      w.emit('r1 = map[ring] ll', 'r2 = 16', 'r3 = 0', 'call 131', `if r0 == 0 goto ${out}`);
      w.emit('r1 = r0', 'r2 = 0', ...(keeps ? [] : ['call 133']));
      break;
    default:
      w.emit('r1 = r10', 'r1 += -120', 'r2 = 0', 'r3 = 10', 'call kfunc[0 bpf_iter_num_new]');
      w.emit('r1 = r10', 'r1 += -120', ...(keeps ? [] : ['call kfunc[0 bpf_iter_num_destroy]']));
  }
  w.emit(`${out}:`, 'r0 = 0');
  for (let r = 1; r <= 3; r++) w.emit(`r${r} = ${w.constant()}`);
}

/** A function that loads from the packet, and gives 0 where it misses it; the sum with what it gives otherwise is an offset. */
function missedLoad(w: Writer): void {
  if (w.type === 'xdp') return;
  const { random } = w;
  const name = `miss${w.label()}`;
  const given = 1 + random.below(39);
  w.emit('r1 = r6', `call ${name}`, 'r5 = r9', ...(random.chance(WRONG) ? [`r5 += ${-given}`] : []), 'r5 += r0');
  const load = random.chance(50) ? `skb[${random.pick([0, 13, 40, 5000])}]` : `skb[r7 + ${random.pick([0, 13, 60])}]`;
  w.addFunction(`${name}:`, 'r6 = r1', `r7 = ${random.below(50)}`, `r0 = *(u8 *)${load}`, `r0 = ${given}`, 'exit');
  for (let r = 0; r <= 3; r++) w.emit(`r${r} = ${w.constant()}`);
  w.emit(`r${random.below(4)} = *(u8 *)(r5 + 0)`, 'r4 = 0', 'r5 = 0');
}

/** What fits anywhere in a program. */
export const MISTAKES: readonly ((w: Writer) => void)[] = [
  twoNullable,
  staleSlice,
  lateLink,
  wrappingSum,
  lastBytes,
  helperWrites,
  releasedRecord,
  twoLocks,
  survivor,
  pastEnd,
  missedLoad,
];
