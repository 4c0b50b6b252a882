/**
 * The reference semantics of BPF: lowered programs run instruction by instruction over the arena, every access
 * checked against it. Slower than compiled code by one to two orders of magnitude (some 150 million instructions a second
 * when measured first), but it runs anywhere, needs no executable memory, and says precisely what went wrong.
 */
import type { Arena } from '../memory/arena.ts';
import { type Decoded, decode } from './decode.ts';
import { InterpreterError } from './errors.ts';
import { Execution, type Host, stackTopOf } from './execution.ts';
import type { LinkedProgram } from './linked-program.ts';

type Service = (a: bigint, b: bigint, c: bigint, d: bigint, e: bigint) => bigint;

export interface InterpreterEnvironment {
  readonly arena: Arena;
  /** Address of the RunContext (memory/layout.ts); its `stackTop` must be set when the interpreter is made. */
  readonly runContext: bigint;
  /** Bytes of stack below `stackTop`. Default 64 KiB: 34 programs of 512 bytes, nested by subprograms that tail-call, need 17. */
  readonly stackSize?: number;
  routine(name: string): LinkedProgram;
  service(name: string): Service;
  /** The program with this id, also while it is being replaced, as long as a run may reach it. */
  programById(id: number): LinkedProgram | undefined;
}

/** What `onInstruction` sees. Valid only during the call. */
export interface InstructionEvent {
  readonly program: LinkedProgram;
  /** Slot in `program.lowered.insns` about to run. */
  readonly insn: number;
  /** Frames below this one: 0 in the main program. */
  readonly frame: number;
  /** Tail calls made so far in this run. */
  readonly tailCalls: number;
  /** @param index 0..11 @returns u64 */
  register(index: number): bigint;
}

export interface RunOptions {
  /** Called before each instruction, routines' included. Makes the run slower. */
  readonly onInstruction?: (event: InstructionEvent) => void;
  /** Asked about every 64 Ki instructions; true ends the run with InterpreterError `stopped`. */
  readonly stop?: () => boolean;
}

/** Instructions between two questions to `stop`. */
const STOP_INTERVAL = 1 << 16;
const DEFAULT_STACK_SIZE = 64 * 1024;

export class Interpreter {
  private readonly host: Host;
  private readonly stackTop: bigint;
  private readonly decodedPrograms = new WeakMap<LinkedProgram, Decoded>();
  /** The run in progress, when a service starts another on top of it. */
  private active: Execution | undefined;
  /** A run that has ended: its memory serves the next one. */
  private idle: Execution | undefined;

  /** @throws MemoryError where `env.runContext` does not lie in the arena. */
  constructor(env: InterpreterEnvironment) {
    const { arena, runContext } = env;
    this.stackTop = stackTopOf(arena, runContext);
    this.host = {
      arena,
      runContext,
      stackBottom: Number(this.stackTop) - (env.stackSize ?? DEFAULT_STACK_SIZE),
      routine: name => this.decoded(env.routine(name)),
      service: name => env.service(name),
      programById: id => {
        const found = env.programById(id);
        return found === undefined ? undefined : this.decoded(found);
      },
    };
  }

  /**
   * Runs `program` to its exit.
   * @param args r1 to r5, at most five u64 (or int64) values; the rest is 0.
   * @returns r0 as u64.
   * @throws InterpreterError; the arena then keeps what the run had written.
   */
  run(program: LinkedProgram, args: readonly bigint[], options: RunOptions = {}): bigint {
    if (args.length > 5) {
      throw new InterpreterError('bad_argument', `a program takes at most five arguments, not ${args.length}`, {
        count: args.length,
      });
    }
    const below = this.active;
    const execution = this.begin(this.decoded(program), args, below?.stackPointer ?? this.stackTop);
    this.active = execution;
    try {
      if (options.onInstruction === undefined) {
        while (!execution.advance(STOP_INTERVAL)) checkStop(options, execution);
      } else {
        runObserved(execution, options.onInstruction, options);
      }
      return execution.register(0);
    } finally {
      this.active = below;
      this.idle = execution;
    }
  }

  private begin(entry: Decoded, args: readonly bigint[], stackTop: bigint): Execution {
    const { idle } = this;
    if (idle === undefined) return new Execution(this.host, entry, args, stackTop);
    this.idle = undefined;
    idle.start(entry, args, stackTop);
    return idle;
  }

  private decoded(program: LinkedProgram): Decoded {
    let decoded = this.decodedPrograms.get(program);
    if (decoded === undefined) {
      decoded = decode(program);
      this.decodedPrograms.set(program, decoded);
    }
    return decoded;
  }
}

function runObserved(execution: Execution, observe: (event: InstructionEvent) => void, options: RunOptions): void {
  const event: InstructionEvent = {
    get program() {
      return execution.current.program;
    },
    get insn() {
      return execution.slot;
    },
    get frame() {
      return execution.frameCount;
    },
    get tailCalls() {
      return execution.tailCalls;
    },
    register: index => execution.register(index),
  };
  do {
    if (execution.instructions % STOP_INTERVAL === 0) checkStop(options, execution);
    observe(event);
  } while (!execution.advance(1));
}

function checkStop(options: RunOptions, execution: Execution): void {
  if (options.stop?.() !== true) return;
  const { name } = execution.current.program.lowered;
  throw new InterpreterError('stopped', `the run was stopped in "${name}" at instruction ${execution.slot}`, {
    program: name,
    insn: execution.slot,
    instructions: execution.instructions,
  });
}
