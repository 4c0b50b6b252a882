/**
 * The arm64 compiler: a lowered program in, position-independent code and relocations out. How a program is walked and
 * checked is `shared/compile.ts`'s; here each step finds its A64 instructions. See `frame.ts` for frames and the tail
 * call count, `registers.ts` for the register assignment. BTI and pointer authentication are left out.
 */
import type { Lowered } from '../../lowering/lowered.ts';
import type { Code, CompileOptions, TailCallMode } from '../shared/code.ts';
import { compileFor, type Fixup, type Target } from '../shared/compile.ts';
import { call, INSTRUCTION_BYTES, jump } from './branches.ts';
import { emitAlu, emitByteSwap, emitMovSx, loadConstant, move } from './emit-alu.ts';
import { type AtomicsDialect, emitAtomic } from './emit-atomic.ts';
import { emitJump } from './emit-jump.ts';
import { emitLoad, emitStore } from './emit-memory.ts';
import { emitDirectTailCall, emitDynamicTailCall, emitStaticTailCall, MAX_STATIC_ENTRIES } from './emit-tail-call.ts';
import { encode } from './encodings.ts';
import { emitCallIndirect, emitExit, emitPrologue, type Frame, frameOf, TAIL_CALL_PROLOGUE_OFFSET } from './frame.ts';
import { machineRegister, RUN_CONTEXT } from './registers.ts';

const CALL: Fixup = { form: 'branch26', bytesBack: INSTRUCTION_BYTES, bias: 0 };
const ADDRESS_PARTS = [0, 16, 32] as const;
const ADDRESS: Fixup = { form: 'moveWide48', bytesBack: ADDRESS_PARTS.length * INSTRUCTION_BYTES, bias: 0 };

export const TAIL_CALL_MODES: readonly TailCallMode[] = ['baseline', 'cached'];

function target(atomics: AtomicsDialect): Target<Frame> {
  return {
    tailCallPrologueOffset: TAIL_CALL_PROLOGUE_OFFSET,
    tailCallModes: TAIL_CALL_MODES,
    maxStaticEntries: MAX_STATIC_ENTRIES,
    frame: frameOf,
    prologue: emitPrologue,
    exit: emitExit,
    alu: emitAlu,
    movSx: emitMovSx,
    byteSwap: emitByteSwap,
    constant: (buffer, dst, value) => loadConstant(buffer, 64, machineRegister(dst), value),
    address(buffer, dst) {
      for (const shift of ADDRESS_PARTS) {
        encode(buffer, `${shift === 0 ? 'movz' : 'movk'} Rd, #i, lsl #h*16`, 64, machineRegister(dst), 0, shift);
      }
      return ADDRESS;
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
    directTailCall: emitDirectTailCall,
    staticTailCall: emitStaticTailCall,
    dynamicTailCall: emitDynamicTailCall,
  };
}

const TARGETS: Readonly<Record<AtomicsDialect, Target<Frame>>> = {
  lse: target('lse'),
  exclusive: target('exclusive'),
};

/**
 * @param atomics instructions that the processor has
 * @throws CompileError for instructions that lowering must not leave, targets outside the program, and programs whose
 *   code would be too large
 * @throws LoweringError for a tail call whose immediate `packTailCall` cannot have made
 */
export function compile(lowered: Lowered, options: CompileOptions, atomics: AtomicsDialect): Code {
  return compileFor(TARGETS[atomics], lowered, options);
}
