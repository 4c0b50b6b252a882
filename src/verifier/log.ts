/**
 * The verifier's log, line for line in the shape of Linux 6.18's, so that people's eyes and log tools carry over.
 *
 * At level 1 the log holds the path in work only: what a finished path wrote is cut off when the next one starts, so
 * that a refusal shows how it was reached and a success shows little. Level 2 keeps everything, and adds what the program looks
 * like before it is walked (functions, live registers, loops), which stack slots turn out to be live (`stack-liveness.ts`) and how precision was
 * traced back (`precision.ts`).
 */

import type { Instruction } from '../isa/instruction.ts';
import { formatKernel } from '../isa/kernel-format.ts';
import type { LineInfo } from '../object/spec.ts';
import { formatFrame, formatReferences, type Selection } from './format.ts';
import { STACK_SLOTS, type State } from './state.ts';

export type LogLevel = 0 | 1 | 2;

const COLUMN = 40;
const COLUMN_STEP = 8;
/** What the kernel adds to the way of a path that only a wrong guess leads to. */
const SPECULATIVE = ' (speculative execution)';
const ALL_REGISTERS = 0x7ff;
/** The state behind an instruction. */
const RESULT = / +;(?: frame\d+:)? (?:R\d+|fp-\d+)=.*$/;
/** Of a longer log, the end is kept, as in the kernel. */
const MAX_LINES = 1 << 18;

/** Length to which an instruction's line of `length` with its end is filled before the state after it, less two characters. */
function alignment(length: number): number {
  return Math.ceil(Math.max(length + COLUMN_STEP / 2, COLUMN) / COLUMN_STEP) * COLUMN_STEP;
}

function innermost(state: State, selection?: Selection): string {
  return formatFrame(state.frame, state.frames.length - 1, selection) + formatReferences(state);
}

export class VerifierLog {
  readonly level: LogLevel;
  private readonly lines: string[] = [];
  private readonly insns: readonly Instruction[];
  private readonly helperName: (helper: number) => string | undefined;
  private readonly source: readonly LineInfo[];
  private previousSource: LineInfo | undefined = undefined;
  /** The last line is an instruction that still waits for the state it led to. */
  private open = false;
  /** Lines that the log has lost at its start. */
  private dropped = 0;
  /** A path that branched off was followed. */
  private branched = false;
  private touchedRegisters = 0;
  private readonly touchedSlots = new Set<number>();

  constructor(
    level: LogLevel,
    insns: readonly Instruction[],
    source: readonly LineInfo[],
    helperName: (helper: number) => string | undefined,
  ) {
    this.helperName = helperName;
    this.level = level;
    this.insns = insns;
    this.source = source;
  }

  write(line: string): void {
    this.lines.push(line);
    this.open = false;
    if (this.lines.length < MAX_LINES) return;
    this.dropped += MAX_LINES / 2;
    this.lines.splice(0, MAX_LINES / 2);
  }

  touchRegister(r: number): void {
    this.touchedRegisters |= 1 << r;
  }

  touchSlot(slot: number): void {
    if (this.level > 0) this.touchedSlots.add(slot);
  }

  /** Where the log stands, for `finishPath`. */
  get position(): number {
    return this.dropped + this.lines.length;
  }

  /** Another path begins; at level 1 its log starts where the branch was taken. */
  finishPath(position: number): void {
    if (this.level < 2 && position < this.position) {
      this.lines.length = Math.max(0, position - this.dropped);
      // What the instruction led to on the other path.
      const last = this.lines.pop();
      if (last !== undefined) this.lines.push(last.replace(RESULT, ''));
    }
    this.open = false;
    this.touchAll();
  }

  private clearTouched(): void {
    this.touchedRegisters = 0;
    this.touchedSlots.clear();
  }

  lineOf(insn: number): LineInfo | undefined {
    let low = 0;
    let high = this.source.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.source[middle]!.insn <= insn) low = middle + 1;
      else high = middle;
    }
    return this.source[low - 1];
  }

  /**
   * The path ends at `to`, which was proved before.
   * @param branched it has just begun, at a branch at `from`
   */
  safe(branched: boolean, from: number, to: number, speculative: boolean): void {
    if (this.level === 0) return;
    // At level 1 the kernel, once it has followed one branch, says so of all.
    if (branched) this.branched = true;
    if (!(this.level === 2 ? branched : this.branched)) this.write(`${to}: safe`);
    else {
      this.write('');
      this.write(`from ${from} to ${to}${speculative ? SPECULATIVE : ''}: safe`);
    }
  }

  /** `from 3 to 5: ...`, where a branch or a function's caller goes on. */
  branch(from: number, to: number, state: State): void {
    if (this.level === 0) return;
    this.branched = true;
    if (this.level < 2) return;
    this.write('');
    this.write(`from ${from} to ${to}${state.speculative ? SPECULATIVE : ''}:${innermost(state)}`);
  }

  /** What comes next is shown with all that is known. */
  touchAll(): void {
    this.touchedRegisters = ALL_REGISTERS;
    if (this.level > 0) for (let slot = 0; slot < STACK_SLOTS; slot++) this.touchedSlots.add(slot);
  }

  /** What a jump has told, on the path that goes on. */
  jumped(insn: number, state: State): void {
    if (this.level > 0) this.result(insn, state);
  }

  /** A walk is over, and all is well. */
  walked(): void {
    if (this.level < 2) this.lines.length = 0;
    this.open = false;
  }

  /** At level 2: where the functions start. */
  functions(starts: readonly number[]): void {
    if (this.level < 2) return;
    starts.forEach((start, index) => {
      this.write(`func#${index} @${start}`);
    });
  }

  /** At level 2: each instruction with the loop it belongs to and the registers that are live before it. */
  program(live: Uint16Array, loops: Int32Array): void {
    if (this.level < 2) return;
    this.write('Live regs before insn:');
    for (const [insn, instruction] of this.insns.entries()) {
      if (instruction.kind === 'wide') continue;
      const loop = loops[insn]! === 0 ? '' : `${loops[insn]}`;
      let registers = '';
      for (let r = 0; r < 10; r++) registers += (live[insn]! & (1 << r)) === 0 ? '.' : r;
      this.write(`${loop.padStart(3)} ${`${insn}`.padStart(3)}: ${registers} ${this.text(insn)}`);
    }
  }

  /** An instruction as the kernel prints it. */
  text(insn: number): string {
    return formatKernel(this.insns[insn]!, this.helperName);
  }

  /** The state that the previous instruction led to, then the instruction itself. */
  instruction(insn: number, state: State): void {
    if (this.level === 0) return;
    if (this.touchedRegisters !== 0 || this.touchedSlots.size > 0) this.result(insn, state);
    this.sourceLine(insn);
    this.write(`${insn}: ${this.text(insn)}`);
    this.open = true;
  }

  /** Prints all registers at the start of the program or of a function. */
  initial(insn: number, state: State): void {
    if (this.level === 0) return;
    this.previousSource = undefined;
    this.write(`${insn}:${innermost(state)}`);
    this.clearTouched();
  }

  /** Everything known in the innermost frames, as printed around calls. */
  frames(title: string, state: State): void {
    if (this.level === 0) return;
    this.write(title);
    this.write(innermost(state));
    this.clearTouched();
  }

  private result(insn: number, state: State): void {
    const selection: Selection = { registers: this.touchedRegisters, slots: this.touchedSlots };
    const text = innermost(state, selection);
    if (this.open) {
      const last = this.lines.length - 1;
      const line = this.lines[last]!;
      this.lines[last] = `${line.padEnd(alignment(line.length + 1) - 2)};${text}`;
      this.open = false;
    } else {
      this.write(`${insn}:${text}`);
    }
    this.clearTouched();
  }

  private sourceLine(insn: number): void {
    const line = this.lineOf(insn);
    if (line === undefined || line === this.previousSource) return;
    const before = this.previousSource;
    this.previousSource = line;
    if (before !== undefined && before.line === line.line && before.file === line.file) return;
    const file = line.file.slice(line.file.lastIndexOf('/') + 1);
    this.write(`; ${line.text.trim()} @ ${file}:${line.line}`);
  }

  toString(): string {
    return this.lines.length === 0 ? '' : `${this.lines.join('\n')}\n`;
  }
}
