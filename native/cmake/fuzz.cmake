# The fuzz targets: libFuzzer programs, with ASan and UBSan. Only clang has it. REPLACE names what a
# target puts something of its own in the place of, where the helper's code calls it: that, and not
# a condition in the code, keeps the targets apart from what is installed.
set(fuzz ${CMAKE_CURRENT_SOURCE_DIR}/fuzz)
set(sanitizers fuzzer-no-link,address,undefined)
add_library(fuzz_common STATIC ${fuzz}/fuzz.c)
target_include_directories(fuzz_common PUBLIC ${fuzz} ${src})
target_link_libraries(fuzz_common PUBLIC sbx_warnings)
target_compile_options(fuzz_common PUBLIC
  -g -O1 -fsanitize=${sanitizers} -fno-sanitize-recover=all -fno-omit-frame-pointer)

function(fuzz_target name)
  cmake_parse_arguments(target "" "" "PARTS;ALSO;REPLACE" ${ARGN})
  list(TRANSFORM target_PARTS PREPEND ${src}/)
  list(TRANSFORM target_ALSO PREPEND ${fuzz}/)
  add_library(fuzz_${name}_parts OBJECT ${target_PARTS})
  target_link_libraries(fuzz_${name}_parts PRIVATE fuzz_common)
  foreach(function ${target_REPLACE})
    target_compile_definitions(fuzz_${name}_parts PRIVATE ${function}=fake_${function})
  endforeach()
  add_executable(fuzz_${name} ${fuzz}/fuzz_${name}.c ${target_ALSO}
    $<TARGET_OBJECTS:fuzz_${name}_parts>)
  target_link_libraries(fuzz_${name} PRIVATE fuzz_common)
  target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer,address,undefined)
endfunction()

fuzz_target(message PARTS message.c warm.c)
fuzz_target(glob PARTS collect.c)
fuzz_target(tree PARTS reset.c collect.c fault.c)
fuzz_target(job PARTS job.c stage.c collect.c message.c fault.c ALSO job_world.c
  REPLACE setsid setrlimit open dup2 fchdir ioctl syscall umask _exit)
fuzz_target(worker PARTS worker.c queue.c cpus.c slot.c life.c message.c result.c output.c fault.c
  ALSO worker_kernel.c
  REPLACE clock_gettime waitid syscall ioctl poll epoll_pwait2 ftruncate)
# Its caller in worker.c comes by the harness, which learns where the worker's state is.
set_source_files_properties(${src}/slot.c PROPERTIES COMPILE_DEFINITIONS slot_next=real_slot_next)
