/**
 * Stack use over call chains, once every function's own use is known. The kernel's `check_max_stack_depth`: at most 8
 * frames and 512 bytes together; 256 bytes below a function that makes tail calls, since the program it enters gets 512 of its own.
 */
import type { Instruction } from '../isa/instruction.ts';
import type { Analysis } from './analysis.ts';
import { MAX_FRAMES, STACK_BYTES } from './state.ts';

const TAIL_CALL_LIMIT = 256;
/** What compilers round a frame up to. */
const FRAME_ALIGN = 16;

const roundUp = (bytes: number, to: number): number => Math.ceil(bytes / to) * to;

interface CallGraph {
  /** By subprogram: what it calls, callbacks included. */
  readonly callees: readonly ReadonlySet<number>[];
  readonly hasTailCall: readonly boolean[];
}

/**
 * @param calls see `findCalls`
 * @param tailCall tells whether a helper number is bpf_tail_call.
 */
export function callGraph(
  insns: readonly Instruction[],
  calls: readonly number[],
  subprogramOf: Int16Array,
  count: number,
  tailCall: (helper: number) => boolean,
): CallGraph {
  const callees = Array.from({ length: count }, () => new Set<number>());
  const hasTailCall: boolean[] = new Array(count).fill(false);
  for (const insn of calls) {
    const i = insns[insn]!;
    const caller = subprogramOf[insn]!;
    if (i.kind === 'callSubprogram') callees[caller]!.add(subprogramOf[insn + 1 + i.offset]!);
    else if (i.kind === 'loadImm64' && i.reference?.type === 'function')
      callees[caller]!.add(subprogramOf[insn + 1 + i.reference.offset]!);
    else if (i.kind === 'callHelper' && tailCall(i.helper)) hasTailCall[caller] = true;
  }
  return { callees, hasTailCall };
}

/** By subprogram: does `start` hold for it or for anything it calls? */
export function closure(graph: CallGraph, start: readonly boolean[]): boolean[] {
  const result = [...start];
  let changed = true;
  while (changed) {
    changed = false;
    graph.callees.forEach((callees, caller) => {
      if (result[caller] || ![...callees].some(callee => result[callee])) return;
      result[caller] = true;
      changed = true;
    });
  }
  return result;
}

/** Bytes of the deepest chain of calls from the program's start. Refuses recursion and what is too deep. */
export function checkStackDepth(a: Analysis, graph: CallGraph): number {
  let deepest = 0;
  const path: number[] = [];
  // A function is walked again only from a deeper place than before, so shared callees cost little.
  const deepestAt = new Int32Array(a.cfg.subprograms.length).fill(-1);
  const framesAt = new Int32Array(a.cfg.subprograms.length);
  const walk = (subprogram: number, before: number): void => {
    a.insn = a.cfg.subprograms[subprogram]!.start;
    if (path.includes(subprogram)) a.fail('recursion', `the call stack of ${MAX_FRAMES} frames is too deep !`, 'E2BIG');
    if (path.length >= MAX_FRAMES)
      a.fail('too_many_frames', `the call stack of ${path.length} frames is too deep !`, 'E2BIG');
    if (path.length > 0 && graph.hasTailCall[subprogram] && before >= TAIL_CALL_LIMIT)
      a.fail(
        'stack_too_deep',
        `tail_calls are not allowed when call stack of previous frames is ${before} bytes. Too large`,
      );
    const depth = before + roundUp(a.realFacts.stackDepth[subprogram]!, FRAME_ALIGN);
    if (depth > STACK_BYTES)
      a.fail('stack_too_deep', `combined stack size of ${path.length + 1} calls is ${depth}. Too large`);
    deepest = Math.max(deepest, depth);
    if (depth <= deepestAt[subprogram]! && path.length <= framesAt[subprogram]!) return;
    deepestAt[subprogram] = Math.max(depth, deepestAt[subprogram]!);
    framesAt[subprogram] = Math.max(path.length, framesAt[subprogram]!);
    path.push(subprogram);
    for (const callee of graph.callees[subprogram]!) walk(callee, depth);
    path.pop();
  };
  walk(0, 0);
  return deepest;
}
