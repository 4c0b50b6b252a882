import { describe } from 'vitest';
import { executionSuite } from '../jit/suites/execution.ts';
import { arm64Platform, arm64v80Platform } from './emulator.ts';

// Without LSE, atomic operations are other code; the emulated Armv8.0 processor refuses the instructions of Armv8.1.
describe.each([arm64Platform, arm64v80Platform])('$name', platform => executionSuite(platform));
