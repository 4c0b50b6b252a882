import type { Instruction } from './instruction.ts';

/** Slots that jumps lead to. Functions begin at others, too. */
export function jumpTargets(insns: readonly Instruction[]): ReadonlySet<number> {
  const targets = new Set<number>();
  for (const [slot, insn] of insns.entries()) {
    if (insn.kind === 'jump' || insn.kind === 'goto' || insn.kind === 'mayGoto') targets.add(slot + 1 + insn.offset);
  }
  return targets;
}
