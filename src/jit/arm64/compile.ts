/**
 * The arm64 compiler: a lowered program in, position-independent code and relocations out. How a program is walked and
 * checked is `shared/compile.ts`'s; here each step finds its A64 instructions. See `frame.ts` for frames and the tail
 * call count, `registers.ts` for the register assignment. BTI and pointer authentication are left out.
 */
import type { Lowered } from '../../lowering/lowered.ts';
import type { Code, CompileOptions, TailCallMode } from '../shared/code.ts';
import { compileFor, type Fixup, MAX_TAIL_CALLS, type Target } from '../shared/compile.ts';
import { CompileError } from '../shared/errors.ts';
import { chooseTailCalls, type TailCallChoices, tailCallPresets } from '../shared/tail-call-choices.ts';
import { call, INSTRUCTION_BYTES, jump } from './branches.ts';
import { emitAlu, emitByteSwap, emitMovSx, loadConstant, move } from './emit-alu.ts';
import { type AtomicsDialect, emitAtomic } from './emit-atomic.ts';
import { emitJump } from './emit-jump.ts';
import { emitLoad, emitStore } from './emit-memory.ts';
import {
  emitDirectTailCall,
  emitDynamicTailCall,
  emitFastDirectTailCall,
  emitFastDynamicTailCall,
  emitFastStaticTailCall,
  emitStaticTailCall,
  MAX_STATIC_ENTRIES,
} from './emit-tail-call.ts';
import { encode } from './encodings.ts';
import {
  emitCallIndirect,
  emitExit,
  emitFastPrologue,
  emitPrologue,
  emitSetCount,
  FAST_PROLOGUE_OFFSET,
  type Frame,
  fastFrame,
  frameOf,
  TAIL_CALL_PROLOGUE_OFFSET,
} from './frame.ts';
import { machineRegister, RUN_CONTEXT, SCRATCH_A } from './registers.ts';

const CALL: Fixup = { form: 'branch26', bytesBack: INSTRUCTION_BYTES, bias: 0 };
const ADDRESS_PARTS = [0, 16, 32] as const;
const ADDRESS: Fixup = { form: 'moveWide48', bytesBack: ADDRESS_PARTS.length * INSTRUCTION_BYTES, bias: 0 };

export const TAIL_CALL_MODES: readonly TailCallMode[] = ['baseline', 'cached', 'fast'];
export const TAIL_CALL_PRESETS = tailCallPresets('register');
/** Largest `maxTailCalls`. */
const LARGEST_LIMIT = 1 << 20;

/** All that the modes share. */
function target(atomics: AtomicsDialect): Target<Frame> {
  return {
    tailCallPrologueOffset: TAIL_CALL_PROLOGUE_OFFSET,
    tailCallModes: ['baseline', 'cached'],
    choices: TAIL_CALL_PRESETS.baseline,
    maxStaticEntries: MAX_STATIC_ENTRIES,
    frame: frameOf,
    prologue: (buffer, frame, tailCallEntry) =>
      emitPrologue(buffer, frame, at => emitSetCount(at, MAX_TAIL_CALLS, 'plain'), tailCallEntry),
    exit: emitExit,
    alu: emitAlu,
    addShifted(buffer, dst, src, amount) {
      const sum = machineRegister(dst);
      encode(buffer, 'add Xd, Xn, Xm, lsl #i', 64, sum, sum, machineRegister(src), amount);
    },
    movSx: emitMovSx,
    byteSwap: emitByteSwap,
    constant: (buffer, dst, value) => loadConstant(buffer, 64, machineRegister(dst), value),
    address(buffer, dst) {
      for (const shift of ADDRESS_PARTS) {
        encode(buffer, `${shift === 0 ? 'movz' : 'movk'} Rd, #i, lsl #h*16`, 64, machineRegister(dst), 0, shift);
      }
      return ADDRESS;
    },
    aluAddress(buffer, { op, width, dst }) {
      for (const shift of ADDRESS_PARTS) {
        encode(buffer, `${shift === 0 ? 'movz' : 'movk'} Rd, #i, lsl #h*16`, 64, SCRATCH_A, 0, shift);
      }
      const register = machineRegister(dst);
      encode(buffer, `${op} Rd, Rn, Rm`, width, register, register, SCRATCH_A);
      return { ...ADDRESS, bytesBack: ADDRESS.bytesBack + 4 };
    },
    load: emitLoad,
    store: emitStore,
    atomic: (buffer, insn, frame) => emitAtomic(buffer, insn, frame, atomics),
    jump: emitJump,
    goto: jump,
    callSubprogram: (buffer, _frame, callee) => call(buffer, callee),
    call(buffer) {
      encode(buffer, 'bl #j*4', 64, 0);
      return CALL;
    },
    callIndirect: emitCallIndirect,
    runContext: (buffer, dst) => move(buffer, 64, machineRegister(dst), RUN_CONTEXT),
    loadFence: buffer => encode(buffer, 'dmb ishld'),
    directTailCall: emitDirectTailCall,
    staticTailCall: emitStaticTailCall,
    dynamicTailCall: emitDynamicTailCall,
  };
}

/** What differs in mode 'fast': frames, limits, tail calls. */
function fastTarget(atomics: AtomicsDialect, limit: number, choices: TailCallChoices): Target<Frame> {
  const { emptySlots } = choices;
  return {
    ...TARGETS[atomics],
    tailCallPrologueOffset: FAST_PROLOGUE_OFFSET,
    tailCallModes: ['fast'],
    choices,
    frame(shape) {
      if (
        shape.kind === 'subprogram' &&
        limit > MAX_TAIL_CALLS &&
        shape.insns.some(({ kind }) => kind === 'tailCall')
      ) {
        throw new CompileError(
          'bad_input',
          `a subprogram makes tail calls, each of which can deepen the stack; maxTailCalls can be ${MAX_TAIL_CALLS} at most, not ${limit}`,
          { maxTailCalls: limit },
        );
      }
      return fastFrame(shape);
    },
    prologue: (buffer, frame, tailCallEntry) =>
      emitFastPrologue(buffer, frame, at => emitSetCount(at, limit, 'fast'), tailCallEntry),
    // Whoever calls through the address has set the usual limit.
    callback(buffer, _frame, entry) {
      emitSetCount(buffer, limit, 'fast');
      jump(buffer, entry);
    },
    directTailCall: emitFastDirectTailCall,
    staticTailCall: (buffer, _frame, out, maxEntries, index) =>
      emitFastStaticTailCall(buffer, emptySlots, out, maxEntries, index),
    dynamicTailCall: (buffer, _frame, out) => emitFastDynamicTailCall(buffer, emptySlots, out),
  };
}

const TARGETS: Readonly<Record<AtomicsDialect, Target<Frame>>> = {
  lse: target('lse'),
  exclusive: target('exclusive'),
};

/**
 * @param atomics instructions that the processor has
 * @throws CompileError for instructions that lowering must not leave, targets outside the program, limits out of range
 *   or in a mode that has none, choices that the mode does not leave open, and programs whose code would be too large
 * @throws LoweringError for a tail call whose immediate `packTailCall` cannot have made
 */
export function compile(lowered: Lowered, options: CompileOptions, atomics: AtomicsDialect): Code {
  const { maxTailCalls = MAX_TAIL_CALLS, tailCallMode } = options;
  const choices = chooseTailCalls(TAIL_CALL_PRESETS, tailCallMode, options.tailCallChoices);
  const fast = choices.frames === 'common' && options.kind === 'program';
  const largest = fast ? LARGEST_LIMIT : MAX_TAIL_CALLS;
  const smallest = fast ? 1 : MAX_TAIL_CALLS;
  if (!Number.isInteger(maxTailCalls) || maxTailCalls < smallest || maxTailCalls > largest) {
    throw new CompileError(
      'bad_input',
      `${lowered.name}: maxTailCalls is ${maxTailCalls}; expected an integer from ${smallest} to ${largest} in mode '${tailCallMode}'`,
      { maxTailCalls, tailCallMode },
    );
  }
  const target = fast ? fastTarget(atomics, maxTailCalls, choices) : { ...TARGETS[atomics], choices };
  return compileFor(target, lowered, options);
}
