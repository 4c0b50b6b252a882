/**
 * Gadgets around what a verifier follows by identity: iterators, dynptrs, spin locks, callbacks for each element, pointers into a
 * packet that has moved. Each is right but for what `risk` pushes over the edge.
 */
import type { FuzzType, Random } from './generator.ts';

/** What the generator offers to gadgets outside of it. */
export interface Writer {
  readonly random: Random;
  readonly type: FuzzType;
  /** Percentage of things that are done wrong. */
  readonly risk: number;
  emit(...lines: string[]): void;
  /** Goes behind the program's own code. */
  addFunction(...lines: string[]): void;
  label(): string;
  edge(value: number): number;
  constant(): number;
  /** Gives register `r` some number. */
  unknown(r: number): void;
  /** A load or store of `size` bytes at `offset` from a register. */
  touch(pointer: number, offset: number, size: 1 | 2 | 4 | 8): void;
  /** Any gadget. */
  gadget(): void;
}

const SIZES = [1, 2, 4, 8] as const;

const goesWrong = (w: Writer): boolean => w.random.chance(w.risk);

/** r0 to r3 are numbers again, r4 and r5 scratch. */
export function restore(w: Writer): void {
  for (let r = 0; r <= 3; r++) w.unknown(r);
  w.emit('r4 = 0', 'r5 = 0');
}

/** Where the outermost iterator lies below r10. */
const OUTERMOST = 120;

/**
 * A loop around an open-coded iterator that counts on the stack, with or without another one inside. Counters are small: what
 * becomes an index keeps the loop from converging, and the kernel takes minutes to give up.
 */
export function iterator(w: Writer, slot = OUTERMOST): void {
  const { random } = w;
  const [head, out] = [w.label(), w.label()];
  const counter = slot + 8;
  const call = (name: string): void => w.emit('r1 = r10', `r1 += -${slot}`, `call kfunc[0 bpf_iter_num_${name}]`);
  w.emit(`*(u64 *)(r10 - ${counter}) = 0`);
  const low = random.pick([0, 0, 1, -3]);
  // Loops in loops run as often as their product says: it must stay below what counts as endless.
  const times = random.pick(slot === OUTERMOST ? [0, 1, 5, 40] : [0, 1, 5]);
  if (!goesWrong(w)) {
    w.emit('r1 = r10', `r1 += -${slot}`, `r2 = ${low}`, `r3 = ${low + times}`);
    w.emit('call kfunc[0 bpf_iter_num_new]');
  }
  w.emit(`${head}:`);
  call('next');
  if (!goesWrong(w)) w.emit(`if r0 == 0 goto ${out}`);
  // An address that got into a map would differ from run to run.
  w.emit('r4 = *(s32 *)(r0 + 0)', 'r0 = 1');
  switch (random.below(3)) {
    case 0: {
      const skip = w.label();
      w.emit(`if r4 > ${w.edge(31)} goto ${skip}`, 'r5 = r9', 'r5 += r4');
      w.touch(5, w.edge(8), random.pick(SIZES));
      w.emit(`${skip}:`);
      break;
    }
    case 1: {
      const skip = w.label();
      w.emit(`r4 = *(u64 *)(r10 - ${counter})`, `if r4 > ${w.edge(7)} goto ${skip}`, 'r5 = r9', 'r5 += r4');
      w.touch(5, w.edge(8), random.pick(SIZES));
      w.emit('r4 += 1', 'r4 &= 7', `*(u64 *)(r10 - ${counter}) = r4`, `${skip}:`);
      break;
    }
    default:
      w.emit(`r4 = *(u64 *)(r10 - ${counter})`, 'r4 += 1', 'r4 &= 7', `*(u64 *)(r10 - ${counter}) = r4`);
  }
  restore(w);
  if (random.chance(20) && slot < 150) iterator(w, slot + 16);
  else if (random.chance(20)) w.gadget();
  if (random.chance(25)) w.emit(`r4 = *(u64 *)(r10 - ${counter})`, `if r4 > ${random.below(8)} goto ${out}`);
  w.emit(`goto ${head}`, `${out}:`);
  if (!goesWrong(w)) call('destroy');
  restore(w);
  if (random.chance(40)) {
    const skip = w.label();
    w.emit(`r4 = *(u64 *)(r10 - ${counter})`);
    if (!goesWrong(w)) w.emit(`if r4 > ${w.edge(31)} goto ${skip}`);
    w.emit('r5 = r9', 'r5 += r4');
    w.touch(5, w.edge(8), random.pick(SIZES));
    w.emit(`${skip}:`, 'r4 = 0', 'r5 = 0');
  }
}

/** A value with a lock: found, locked, used, unlocked. */
export function lock(w: Writer): void {
  const { random } = w;
  const none = w.label();
  w.emit(`*(u32 *)(r10 - 92) = ${random.below(5)}`, 'r1 = map[locked_array] ll', 'r2 = r10', 'r2 += -92', 'call 1');
  if (!goesWrong(w)) w.emit(`if r0 == 0 goto ${none}`);
  w.emit('*(u64 *)(r10 - 168) = r0', 'r1 = r0', `r1 += ${w.edge(4)}`);
  if (!goesWrong(w)) w.emit('call 93');
  w.emit('r5 = *(u64 *)(r10 - 168)');
  for (let r = 0; r <= 3; r++) w.emit(`r${r} = ${w.constant()}`);
  w.touch(5, w.edge(8), random.pick(SIZES));
  if (goesWrong(w)) w.emit('call 7', 'r5 = *(u64 *)(r10 - 168)');
  w.emit('r5 = *(u64 *)(r10 - 168)', 'r1 = r5', `r1 += ${w.edge(4)}`);
  if (!goesWrong(w)) w.emit('call 94');
  if (random.chance(30)) {
    w.emit('r5 = *(u64 *)(r10 - 168)');
    for (let r = 0; r <= 3; r++) w.emit(`r${r} = ${w.constant()}`);
    w.touch(5, w.edge(8), random.pick(SIZES));
  }
  w.emit(`${none}:`);
  restore(w);
}

/** bpf_for_each_map_elem: a sum on the caller's stack. */
export function forEach(w: Writer): void {
  const { random } = w;
  const name = `each${w.label()}`;
  const map = random.pick(['array', 'hash']);
  w.emit(`*(u64 *)(r10 - 176) = ${random.pick([0, 1, 7])}`);
  w.emit(`r1 = map[${map}] ll`, `r2 = func[${name}] ll`, 'r3 = r10', 'r3 += -176', 'r4 = 0', 'call 164');
  restore(w);
  if (random.chance(60)) {
    const skip = w.label();
    w.emit('r4 = *(u64 *)(r10 - 176)');
    if (!goesWrong(w)) w.emit(`if r4 > ${w.edge(31)} goto ${skip}`);
    w.emit('r5 = r9', 'r5 += r4');
    w.touch(5, w.edge(8), random.pick(SIZES));
    w.emit(`${skip}:`, 'r4 = 0', 'r5 = 0');
  }
  const size = map === 'array' ? 48 : 16;
  const body = [`${name}:`, `r5 = *(u32 *)(r2 + ${Math.max(0, w.edge(0))})`];
  if (goesWrong(w)) body.push('*(u32 *)(r2 + 0) = r5');
  body.push('r0 = *(u64 *)(r4 + 0)', `r0 += ${random.pick(['r5', '1', '8'])}`);
  // Elements are not counted by the verifiers: a sum without limit would never converge.
  body.push(`r0 &= ${random.pick([7, 15])}`, '*(u64 *)(r4 + 0) = r0');
  if (random.chance(50)) body.push(`r5 = *(u8 *)(r3 + ${w.edge(size - 1)})`);
  else body.push(`*(u64 *)(r3 + ${w.edge(size - 8)}) = r5`);
  // Each backend has its own order of a hash: a callback that stops there would have seen others.
  body.push(map === 'hash' || random.chance(70) ? 'r0 = 0' : 'r0 &= 1', ...(goesWrong(w) ? ['r0 = 2'] : []), 'exit');
  w.addFunction(...body);
}

/** A dynptr of a map value, of a ring buffer's record, or of the packet. */
export function dynptr(w: Writer): void {
  const { random } = w;
  const at = random.pick([192, 192, 208]);
  const out = w.label();
  const give = (register: number): void => w.emit(`r${register} = r10`, `r${register} += -${w.edge(at)}`);
  const kind = random.below(3);
  if (kind === 0) {
    w.emit('r1 = r9', `r2 = ${w.edge(48)}`, 'r3 = 0');
    give(4);
    w.emit('call 197');
  } else if (kind === 1) {
    w.emit('r1 = map[ring] ll', 'r2 = 16', 'r3 = 0');
    give(4);
    w.emit('call 198');
  } else {
    w.emit('r1 = r6', 'r2 = 0');
    give(3);
    w.emit(`call kfunc[0 bpf_dynptr_from_${w.type === 'xdp' ? 'xdp' : 'skb'}]`);
  }
  if (random.chance(50)) {
    // Read or write through the helpers, some of it through the stack.
    const write = random.chance(40);
    const buffer = write ? 2 : 1;
    w.emit(`r${buffer} = r10`, `r${buffer} += ${w.edge(-64)}`, ...(write ? [] : [`r2 = ${w.edge(8)}`]));
    give(write ? 1 : 3);
    if (write) w.emit(`r3 = ${random.below(20)}`, `r4 = ${w.edge(8)}`, 'r5 = 0', 'call 202');
    else w.emit(`r4 = ${random.below(20)}`, 'r5 = 0', 'call 201');
  }
  if (random.chance(70)) {
    if (kind === 2) {
      give(1);
      w.emit(`r2 = ${random.pick([0, 0, 6, 14])}`, 'r3 = r10', 'r3 += -64', `r4 = ${w.edge(8)}`);
      w.emit(`call kfunc[0 bpf_dynptr_slice${random.chance(20) ? '_rdwr' : ''}]`);
    } else {
      give(1);
      w.emit(`r2 = ${random.pick([0, 0, 4, 8])}`, 'r3 = 8', 'call 203');
    }
    w.emit('r5 = r0');
    for (let r = 0; r <= 3; r++) w.emit(`r${r} = ${w.constant()}`);
    if (!goesWrong(w)) w.emit(`if r5 == 0 goto ${out}`);
    const move = random.chance(10);
    if (move) {
      w.emit('*(u64 *)(r10 - 168) = r5');
      movePacket(w);
      w.emit('r5 = *(u64 *)(r10 - 168)');
    }
    if (!move || goesWrong(w)) w.touch(5, w.edge(0), random.pick(SIZES));
    w.emit(`${out}:`);
  }
  if (kind === 1 && !goesWrong(w)) {
    give(1);
    w.emit('r2 = 0', `call ${random.pick([199, 200])}`);
    if (goesWrong(w)) {
      give(1);
      w.emit('r2 = 0', 'call 199');
    }
  }
  restore(w);
}

/** Moves the packet, and loads its bounds anew. */
export function movePacket(w: Writer): void {
  const { random } = w;
  if (w.type === 'xdp') w.emit('r1 = r6', `r2 = ${random.pick([-8, 0, 4])}`, `call ${random.pick([44, 65])}`);
  else w.emit('r1 = r6', `r2 = ${random.pick([0, 14, 34])}`, 'call 39');
  restore(w);
  const [data, end] = w.type === 'xdp' ? [0, 4] : [76, 80];
  w.emit(`r7 = *(u32 *)(r6 + ${data})`, `r8 = *(u32 *)(r6 + ${end})`);
}

/** A pointer that was checked before the packet moved, and is used after it: from a register or from the stack. */
export function stalePointer(w: Writer): void {
  const { random } = w;
  const out = w.label();
  w.emit('r4 = r7', 'r4 += 14', `if r4 > r8 goto ${out}`, '*(u64 *)(r10 - 168) = r7');
  if (w.type === 'xdp') w.emit('r1 = r6', `r2 = ${random.pick([-8, 0, 4])}`, `call ${random.pick([44, 54, 65])}`);
  else if (random.chance(50)) w.emit('r1 = r6', 'r2 = 14', 'call 39');
  else w.emit('r1 = r6', 'r2 = 0', 'r3 = r10', 'r3 += -24', 'r4 = 8', 'r5 = 0', 'call 9');
  for (let r = 0; r <= 3; r++) w.emit(`r${r} = ${w.constant()}`);
  w.emit(random.chance(50) ? 'r5 = r7' : 'r5 = *(u64 *)(r10 - 168)');
  w.touch(5, random.below(8), random.pick(SIZES));
  w.emit(`${out}:`);
  const [data, end] = w.type === 'xdp' ? [0, 4] : [76, 80];
  w.emit(`r7 = *(u32 *)(r6 + ${data})`, `r8 = *(u32 *)(r6 + ${end})`, 'r4 = 0', 'r5 = 0');
}
