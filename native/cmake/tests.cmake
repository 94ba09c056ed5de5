# The C tests, and everything of the helper but its main, with ASan and UBSan. A leak at the end of a
# test program is an error too.
enable_testing()
file(GLOB parts CONFIGURE_DEPENDS ${src}/*.c)
list(REMOVE_ITEM parts ${src}/probe.c ${src}/helper.c)
list(APPEND parts ${src}/policy/unpack_filters.c)

add_library(helper_parts STATIC ${parts})
add_dependencies(helper_parts seccomp_policy seccomp_unpack_policy)
target_include_directories(helper_parts PUBLIC ${src})
target_link_libraries(helper_parts PUBLIC sbx_warnings sbx_sanitizers)

file(GLOB tests CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/tests/test_*.c)
foreach(test ${tests})
  get_filename_component(name ${test} NAME_WE)
  add_executable(${name} ${test})
  target_link_libraries(${name} PRIVATE helper_parts)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT 60)
endforeach()
