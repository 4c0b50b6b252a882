/**
 * The loops of a program: strongly connected parts of its control flow, numbered as the kernel's `compute_scc` does
 * (Tarjan's algorithm, without recursion). What is in no loop is 0.
 */
import type { Instruction } from '../isa/instruction.ts';
import { fallsTo, jumpsTo } from './cfg.ts';

const DONE = 0xffff_ffff;

/** By slot: number of the loop, from 1 on. */
export function findLoops(insns: readonly Instruction[]): Int32Array {
  const loops = new Int32Array(insns.length);
  const order = new Uint32Array(insns.length);
  const low = new Uint32Array(insns.length);
  const next = insns.map((instruction, insn) =>
    instruction.kind === 'wide'
      ? []
      : [fallsTo(instruction, insn), jumpsTo(instruction, insn)].filter(target => target >= 0),
  );
  const waiting: number[] = [];
  let visited = 0;
  let found = 0;
  for (let start = 0; start < insns.length; start++) {
    if (order[start] !== 0) continue;
    const path = [start];
    while (path.length > 0) {
      const insn = path.at(-1)!;
      if (order[insn] === 0) {
        order[insn] = low[insn] = ++visited;
        waiting.push(insn);
      }
      const unseen = next[insn]!.find(successor => {
        if (order[successor] === 0) return true;
        low[insn] = Math.min(low[insn]!, low[successor]!);
        return false;
      });
      if (unseen !== undefined) {
        path.push(unseen);
        continue;
      }
      path.pop();
      if (low[insn]! < order[insn]!) continue;
      const loop = waiting.at(-1) !== insn || next[insn]!.includes(insn);
      if (loop) found++;
      for (let member = -1; member !== insn; ) {
        member = waiting.pop()!;
        low[member] = DONE;
        if (loop) loops[member] = found;
      }
    }
  }
  return loops;
}
