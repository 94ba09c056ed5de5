# What is installed: two executables in sandboxd/libexec, the extension sandboxd/_native.abi3.so, and
# the command sandboxctl.

# The helper is static: it then maps nothing but itself, a worker or a slot's init shares all of its
# read-only pages, and no library of the host is code that runs with privilege. Position-independent:
# measured, that costs neither start-up time nor memory.
file(GLOB helper_sources CONFIGURE_DEPENDS ${src}/*.c)
list(REMOVE_ITEM helper_sources ${src}/probe.c)
add_executable(sandbox-helper ${helper_sources})
add_dependencies(sandbox-helper seccomp_policy)
target_compile_options(sandbox-helper PRIVATE -fPIE)
target_link_options(sandbox-helper PRIVATE -static-pie)
target_link_libraries(sandbox-helper PRIVATE sbx_warnings sbx_hardening)
if(SBX_SANITIZE)
  # Not ASan: it does not know the stack that init and the prepared process share memory on.
  target_compile_options(sandbox-helper PRIVATE
    -fsanitize=undefined -fsanitize-undefined-trap-on-error -Wno-error)
endif()
set(executables sandbox-helper)

# The probe brings its own _start, so that a self test measures the sandbox and not a C library.
add_executable(sandbox-probe ${src}/probe.c)
target_compile_options(sandbox-probe PRIVATE
  -ffreestanding -fno-stack-protector -fno-pie -fno-asynchronous-unwind-tables)
target_link_options(sandbox-probe PRIVATE
  -nostdlib -static -no-pie -Wl,--build-id=none -Wl,-z,noexecstack -s)
target_link_libraries(sandbox-probe PRIVATE sbx_warnings)
list(APPEND executables sandbox-probe)

find_package(Python 3.11 REQUIRED COMPONENTS Interpreter Development.Module)
set(header ${include}/sandbox.h)
add_custom_command(
  OUTPUT ${generated}/_native.c
  COMMAND ${CMAKE_C_COMPILER} -E -P -nostdinc -I ${CMAKE_CURRENT_SOURCE_DIR}/cdef ${header}
          -o ${generated}/cdef.h
  COMMAND Python::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/ffi_build.py
          ${generated}/cdef.h ${generated}/_native.c
  DEPENDS ${header} ${CMAKE_CURRENT_SOURCE_DIR}/ffi_build.py
  VERBATIM)
Python_add_library(_native MODULE ${generated}/_native.c ${src}/report.c
  ${src}/policy/unpack_filters.c)
add_dependencies(_native seccomp_unpack_policy)
target_include_directories(_native PRIVATE ${include} ${generated})
target_compile_definitions(_native PRIVATE Py_LIMITED_API=0x030b0000)
target_link_libraries(_native PRIVATE sbx_hardening)
set_target_properties(_native PROPERTIES PREFIX "" SUFFIX ".abi3.so" C_VISIBILITY_PRESET hidden)

# For the host's interpreter, which may be another version.
Python_add_library(sandbox_warm MODULE ${src}/warm/module.c ${src}/job.c ${src}/stage.c
  ${src}/collect.c ${src}/affinity.c ${src}/locks.c ${src}/message.c ${src}/fault.c ${src}/reap.c)
target_compile_definitions(sandbox_warm PRIVATE Py_LIMITED_API=0x03090000)
target_link_libraries(sandbox_warm PRIVATE sbx_warnings sbx_hardening)
set_target_properties(sandbox_warm PROPERTIES PREFIX "" SUFFIX ".abi3.so"
  C_VISIBILITY_PRESET hidden)

# An editable install has the binaries in the tree, where sandboxd.__file__ leads to them, and a
# .pth file, which is a component of its own: a rebuild installs the binaries alone.
set(destination sandboxd)
if("${SKBUILD_STATE}" STREQUAL "editable")
  get_filename_component(tree ${CMAKE_CURRENT_SOURCE_DIR} DIRECTORY)
  set(destination ${tree}/sandboxd)
  file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/sandboxd.pth "${tree}\n${tree}/clients\n")
  install(FILES ${CMAKE_CURRENT_BINARY_DIR}/sandboxd.pth DESTINATION . COMPONENT paths)
endif()
install(TARGETS _native LIBRARY DESTINATION ${destination} COMPONENT binaries)
install(TARGETS sandbox_warm LIBRARY DESTINATION ${destination}/libexec COMPONENT binaries)
install(TARGETS ${executables} RUNTIME DESTINATION ${destination}/libexec COMPONENT binaries)

# Not an entry point of pyproject.toml: pip's own script imports re, a quarter of the time that
# sandboxctl takes to start.
if(DEFINED SKBUILD_SCRIPTS_DIR)
  install(PROGRAMS ${CMAKE_CURRENT_SOURCE_DIR}/cmake/sandboxctl
          DESTINATION ${SKBUILD_SCRIPTS_DIR} COMPONENT scripts)
endif()
