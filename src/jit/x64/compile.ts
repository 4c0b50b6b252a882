/**
 * The x86-64 compiler: a lowered program in, position-independent code and relocations out. How a program is walked
 * and checked is `shared/compile.ts`'s; here each step finds its x86-64 instructions. See `frame.ts` for frames and
 * the tail call count, `registers.ts` for the register assignment.
 */
import type { Lowered } from '../../lowering/lowered.ts';
import type { Code, CompileOptions } from '../shared/code.ts';
import { compileFor, type Fixup, type FunctionShape, MAX_TAIL_CALLS, type Target } from '../shared/compile.ts';
import { CompileError } from '../shared/errors.ts';
import { chooseTailCalls, type TailCallChoices, tailCallPresets } from '../shared/tail-call-choices.ts';
import { jump, near } from './branches.ts';
import { emitAddShifted, emitAlu, emitByteSwap, emitMovSx, move, moveImmediate64 } from './emit-alu.ts';
import { emitJump } from './emit-jump.ts';
import { emitAtomic, emitLoad, emitStore } from './emit-memory.ts';
import { emitDirectTailCall, emitDynamicTailCall, emitStaticTailCall, MAX_STATIC_ENTRIES } from './emit-tail-call.ts';
import { encode } from './encodings.ts';
import {
  checkLimit,
  emitCallbackEntry,
  emitFastDirectTailCall,
  emitFastDynamicTailCall,
  emitFastExit,
  emitFastPrologue,
  emitFastStaticTailCall,
  emitHopOrStub,
  emitHopOrTest,
  FAST_PROLOGUE_OFFSET,
  type FastFrame,
  fastFrame,
} from './fast.ts';
import { emitExit, emitLoadCounterPointer, emitPrologue, type Frame, TAIL_CALL_PROLOGUE_OFFSET } from './frame.ts';
import { CALLEE_SAVED, machineRegister, RAX, RUN_CONTEXT, SCRATCH } from './registers.ts';

/**
 * @throws CompileError for instructions that lowering must not leave, targets outside the program, programs whose
 *   code would be too large, and choices that the mode does not leave open
 * @throws LoweringError for a tail call whose immediate `packTailCall` cannot have made
 */
export function compile(lowered: Lowered, options: CompileOptions): Code {
  const limit = options.maxTailCalls ?? MAX_TAIL_CALLS;
  checkLimit(limit);
  const choices = chooseTailCalls(TAIL_CALL_PRESETS, options.tailCallMode, options.tailCallChoices);
  if (choices.frames === 'common' && options.kind === 'program') {
    return compileFor(fastTarget(limit, choices), lowered, options);
  }
  if (limit !== MAX_TAIL_CALLS) {
    throw new CompileError(
      'bad_input',
      `${lowered.name}: maxTailCalls is ${limit}, but in mode '${options.tailCallMode}' it is ${MAX_TAIL_CALLS}; use tailCallMode 'fast'`,
      { maxTailCalls: limit, tailCallMode: options.tailCallMode },
    );
  }
  return compileFor({ ...X64, choices }, lowered, options);
}

export const TAIL_CALL_PRESETS = tailCallPresets('memory');

/** Displacements count from the end of the field. */
const CALL: Fixup = { form: 'relative32', bytesBack: 4, bias: -4 };
const ADDRESS: Fixup = { form: 'absolute64', bytesBack: 8, bias: 0 };

const X64: Target<Frame> = {
  tailCallPrologueOffset: TAIL_CALL_PROLOGUE_OFFSET,
  tailCallModes: ['baseline', 'cached'],
  choices: TAIL_CALL_PRESETS.baseline,
  maxStaticEntries: MAX_STATIC_ENTRIES,
  frame: frameOf,
  prologue: emitPrologue,
  exit: emitExit,
  alu: emitAlu,
  addShifted: emitAddShifted,
  movSx: emitMovSx,
  byteSwap: emitByteSwap,
  constant: (buffer, dst, value) => moveImmediate64(buffer, machineRegister(dst), value),
  address(buffer, dst) {
    encode(buffer, 'mov r64, imm64', 64, machineRegister(dst), 0, 0n);
    return ADDRESS;
  },
  aluAddress(buffer, { op, width, dst }) {
    encode(buffer, 'mov r64, imm64', 64, SCRATCH, 0, 0n);
    encode(buffer, `${op} rm, r`, width, machineRegister(dst), SCRATCH);
    // REX prefix, opcode and ModRM follow the immediate: SCRATCH needs the prefix in both widths.
    return { ...ADDRESS, bytesBack: ADDRESS.bytesBack + 3 };
  },
  load: emitLoad,
  store: emitStore,
  atomic: emitAtomic,
  jump: emitJump,
  goto: jump,
  callSubprogram(buffer, frame, callee) {
    if (frame.counts) emitLoadCounterPointer(buffer, frame);
    near(buffer, 0xe8, callee);
  },
  call(buffer) {
    buffer.u8(0xe8);
    buffer.u32(0);
    return CALL;
  },
  callIndirect(buffer, register) {
    let target = machineRegister(register);
    if (target === RAX) {
      move(buffer, 64, SCRATCH, RAX);
      target = SCRATCH;
    }
    // A callback that can reach a tail call starts a count of its own.
    encode(buffer, 'xor rm, r', 32, RAX, RAX);
    encode(buffer, 'call rm64', 32, target);
  },
  runContext: (buffer, dst) => move(buffer, 64, machineRegister(dst), RUN_CONTEXT),
  directTailCall: emitDirectTailCall,
  staticTailCall: emitStaticTailCall,
  dynamicTailCall: emitDynamicTailCall,
};

/** What differs in 'fast' mode: frames, calls of subprograms, which hand on no pointer to a count, and tail calls. */
function fastTarget(limit: number, choices: TailCallChoices): Target<FastFrame> {
  const hop = choices.emptySlots === 'stub' ? emitHopOrStub : emitHopOrTest;
  return {
    ...X64,
    tailCallPrologueOffset: FAST_PROLOGUE_OFFSET,
    tailCallModes: ['fast'],
    choices,
    frame: shape => fastFrame(shape, limit),
    prologue: (buffer, frame, tailCallEntry) => emitFastPrologue(buffer, frame, limit, tailCallEntry),
    exit: emitFastExit,
    load: emitLoad,
    store: emitStore,
    atomic: emitAtomic,
    callSubprogram: (buffer, _frame, callee) => near(buffer, 0xe8, callee),
    directTailCall: emitFastDirectTailCall,
    staticTailCall: (buffer, _frame, out, maxEntries, index) =>
      emitFastStaticTailCall(buffer, hop, out, maxEntries, index),
    dynamicTailCall: (buffer, _frame, out) => emitFastDynamicTailCall(buffer, hop, out),
    callback: (buffer, _frame, entry) => emitCallbackEntry(buffer, limit, entry),
  };
}

function frameOf({ kind, stackDepth, used, counts, addressTaken }: FunctionShape): Frame {
  const linked = kind !== 'routine' || used.has(10);
  return {
    kind,
    depth: linked ? stackDepth : 0,
    saved: CALLEE_SAVED.filter(register => used.has(register)),
    counts,
    maybeEntry: kind === 'main' || addressTaken,
    linked,
  };
}
