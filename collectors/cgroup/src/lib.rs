//! Container metrics under the names of cAdvisor.
