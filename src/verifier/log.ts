/**
 * The verifier's log in the shape of the kernel's, so that people's eyes and log tools carry over.
 *
 * At level 1 the log holds the path in work only: what a finished path wrote is cut off when the next one starts, so
 * that a refusal shows how it was reached and a success shows little. Level 2 keeps everything.
 */

import type { Instruction } from '../isa/instruction.ts';
import { formatKernel } from '../isa/kernel-format.ts';
import type { LineInfo } from '../object/spec.ts';
import { formatFrame, formatReferences, type Selection } from './format.ts';
import type { State } from './state.ts';

export type LogLevel = 0 | 1 | 2;

const COLUMN = 40;
const COLUMN_STEP = 8;

/** Length to which an instruction's line is filled before the state after it, less the last character. */
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
  }

  touchRegister(r: number): void {
    this.touchedRegisters |= 1 << r;
  }

  touchSlot(slot: number): void {
    if (this.level > 0) this.touchedSlots.add(slot);
  }

  /** Where the log stands, for `finishPath`. */
  get position(): number {
    return this.lines.length;
  }

  /** Another path begins; at level 1 its log starts where the branch was taken. */
  finishPath(position: number): void {
    if (this.level < 2 && position < this.lines.length) this.lines.length = position;
    this.open = false;
    this.previousSource = undefined;
    this.clearTouched();
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

  /** The path ends at `to`, which was proved before. `from`: where the path branched off, if it has just begun. */
  safe(from: number | undefined, to: number): void {
    if (this.level === 0) return;
    if (this.level === 2 && from !== undefined) this.write('');
    this.write(from === undefined ? `${to}: safe` : `from ${from} to ${to}: safe`);
  }

  /** `from 3 to 5: ...` */
  branch(from: number, to: number, state: State): void {
    if (this.level === 0) return;
    const text = innermost(state);
    if (this.level === 2) this.write('');
    this.write(`from ${from} to ${to}:${text}`);
    this.write(`${to}:${text}`);
    this.clearTouched();
  }

  /** The state that the previous instruction led to, then the instruction itself. */
  instruction(insn: number, state: State): void {
    if (this.level === 0) return;
    if (this.touchedRegisters !== 0 || this.touchedSlots.size > 0) this.result(insn, state);
    this.sourceLine(insn);
    this.write(`${insn}: ${formatKernel(this.insns[insn]!, this.helperName)}`);
    this.open = true;
  }

  /** Prints all registers at the start of the program or of a function. */
  initial(insn: number, state: State): void {
    if (this.level === 0) return;
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
      this.lines[last] = `${line.padEnd(alignment(line.length) - 2)};${text}`;
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
