/** What the log says at level 2 while a value is walked back (`precision.ts`), line for line as Linux 6.18 does. */
import type { Analysis } from './analysis.ts';
import { formatFrame, formatReferences } from './format.ts';
import type { Checkpoint, State } from './state.ts';

/** Sets of registers and slots, by frame, whose values are wanted at some point of the path. */
interface Wanted {
  readonly registers: Int32Array;
  readonly low: Int32Array;
  readonly high: Int32Array;
  readonly empty: boolean;
}

function listed(mask: number, name: (index: number) => string | number, from = 0): string[] {
  const names: string[] = [];
  for (let index = 0; index < 32; index++) if ((mask & (1 << index)) !== 0) names.push(`${name(index + from)}`);
  return names;
}

const registerNames = (mask: number): string => listed(mask, r => `r${r}`).join(',');
const slotNames = (low: number, high: number): string =>
  [...listed(low, i => -8 * (i + 1)), ...listed(high, i => -8 * (i + 1), 32)].join(',');

/** A frame of a stored state, with the numbers that something relied on. */
export function formatStored(checkpoint: Checkpoint, frame: number): string {
  const { state } = checkpoint;
  const text = formatFrame(state.frames[frame]!, frame, undefined, {
    registers: checkpoint.preciseRegisters(frame),
    slot: i => ((checkpoint.preciseSlots(frame, i >> 5) >> (i & 31)) & 1) === 1,
  });
  return text + formatReferences(state, frame);
}

/** What the kernel's log says at level 2 while a value is walked back. */
export class Trace {
  readonly a: Analysis;
  readonly wanted: Wanted;
  /** Frame that the walk is in. */
  frame: number;
  private last: number;
  private first: number;
  private next = -1;

  constructor(a: Analysis, wanted: Wanted, state: State) {
    this.a = a;
    this.wanted = wanted;
    this.frame = state.frames.length - 1;
    this.last = a.insn;
    this.first = this.startOf(state.parent);
    this.stretch();
  }

  private startOf(checkpoint: Checkpoint | undefined): number {
    return checkpoint?.insn ?? this.a.start;
  }

  private stretch(): void {
    this.a.log.write(
      `mark_precise: frame${this.frame}: last_idx ${this.last} first_idx ${this.first} subseq_idx ${this.next} `,
    );
  }

  step(insn: number, frame: number, callback: boolean): void {
    const { wanted, a } = this;
    const slots = slotNames(wanted.low[this.frame]!, wanted.high[this.frame]!);
    a.log.write(
      `mark_precise: frame${this.frame}: regs=${registerNames(wanted.registers[this.frame]!)} stack=${slots} before ${insn}: ${a.log.text(insn)}`,
    );
    const { kind } = a.insns[insn]!;
    // An exit, or a tail call that comes back.
    if (frame > this.frame) this.frame = frame;
    else if ((kind === 'callSubprogram' || (callback && kind === 'callHelper')) && frame < this.frame) this.frame--;
    this.next = insn;
  }

  /**
   * On to the stretch before a stored state, in which what is still wanted was just marked.
   * @param last the instruction before it
   */
  parent(checkpoint: Checkpoint, last: number): void {
    const { wanted, a } = this;
    for (let f = this.frame; f >= 0; f--) {
      const frame = checkpoint.state.frames[f];
      if (frame === undefined) continue;
      const text = formatStored(checkpoint, f);
      a.log.write(
        `mark_precise: frame${f}: parent state regs=${registerNames(wanted.registers[f]!)} stack=${slotNames(wanted.low[f]!, wanted.high[f]!)}: ${text}`,
      );
    }
    if (wanted.empty) return;
    this.next = this.first;
    this.last = last;
    this.first = this.startOf(checkpoint.parent);
    this.stretch();
  }
}

/** The path goes on as another did: what that relied on. */
export function logInherited(a: Analysis, wanted: Wanted, frames: number): void {
  for (let f = frames - 1; f >= 0; f--) {
    const registers = registerNames(wanted.registers[f]!);
    const slots = slotNames(wanted.low[f]!, wanted.high[f]!);
    const names = [...(registers === '' ? [] : [registers]), ...(slots === '' ? [] : [slots.replaceAll('-', 'fp-')])];
    if (names.length > 0) a.log.write(`frame ${f}: propagating ${names.join(',')}`);
  }
}
